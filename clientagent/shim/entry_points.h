// What cuGetProcAddress looks names up in; the table is generated.
#pragma once

#include <span>

namespace gpuferry {

// `function` serves `name` from CUDA version `since` (11020 for 11.2) on. Sorted by name, then per_thread, then since.
struct EntryPoint {
    const char* name;
    int since;
    bool per_thread;  // the variant whose default stream is the calling thread's own
    void* function;
};

std::span<const EntryPoint> entry_points();

}  // namespace gpuferry
