// Memory files that several processes map: how they are made and found.
#pragma once

#include <cstdint>

namespace softgpu {

// A memfd of `size` bytes. Throws DriverError(OPERATING_SYSTEM).
int make_memory_file(const char* name, uint64_t size);
// Another process's (or this one's) descriptor, opened here through /proc: the same user, the same process namespace.
// Throws DriverError(INVALID_VALUE) when that process or its file is gone.
int open_file_of(int process, int descriptor);
// 64 random bits, so that a handle of a process that ended finds nothing in the one that got its number.
uint64_t random_key();

}  // namespace softgpu
