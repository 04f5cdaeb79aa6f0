// What the generated files (see generate.py) and the code that uses them agree on.
#pragma once

#include <span>

#include "device/cuda_types.h"

namespace softgpu {

// An answer of cuGetProcAddress: `function` serves `name` from CUDA version `since` (11020 for 11.2) on.
struct EntryPoint {
    const char* name;
    int since;
    bool per_thread;  // the variant whose default stream is the calling thread's own
    int symbol;       // index among all exported symbols, sorted by name
    void* function;
};

// Sorted by name, then per_thread, then since.
std::span<const EntryPoint> entry_points();

// The function that calls the exported symbol of this index and logs arguments and result.
void* traced_function(int symbol);

// Logs `symbol` once in the life of the process and gives `answer` back; CUDA_ERROR_NOT_INITIALIZED before cuInit.
CUresult not_supported(const char* symbol, CUresult answer);

struct ErrorText {
    int result;
    const char* name;
    const char* text;
};

// In the order of cuda.h.
std::span<const ErrorText> error_texts();

}  // namespace softgpu
