// Memory that is the program's own, which it may give back to the system at any time: reading and writing it never
// ends the process.
#pragma once

#include <cstddef>
#include <span>

namespace gpuferry {

// Bytes from `start` to before `end`.
struct Run {
    size_t start = 0, end = 0;
};

// Returns how many bytes there were before the first that is gone.
size_t read_program(void* to, const char* from, size_t size);
// Writes these bytes of `from` to the same places of `to`, but for what is gone.
void write_program(char* to, const char* from, std::span<const Run> runs);

}  // namespace gpuferry
