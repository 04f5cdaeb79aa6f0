// The libcuda.so.1 that this worker was given: its only way to a GPU.
#pragma once

#include <string>

#include "driver_table.h"

namespace gpuferry::worker {

// Entry points that the library lacks answer CUDA_ERROR_NOT_SUPPORTED.
extern Driver driver;

// Loads the library into `driver`. Raises std::runtime_error saying what is wrong with it.
void load_driver(const std::string& path);

// Whether the library has this entry point of `driver` at all.
template <class Function>
bool has(Function entry) {
    extern CUresult driver_lacks_it();
    return reinterpret_cast<void*>(entry) != reinterpret_cast<void*>(&driver_lacks_it);
}

}  // namespace gpuferry::worker
