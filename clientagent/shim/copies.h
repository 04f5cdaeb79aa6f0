// The two ways between this process's memory and a GPU's.
#pragma once

#include <cstddef>

#include "cuda_api.h"

namespace gpuferry {

// Posts the bytes, which are taken when the call returns.
CUresult upload(CUdeviceptr destination, const void* source, size_t size, CUstream stream);
// Waits until the bytes are there.
CUresult download(void* destination, CUdeviceptr source, size_t size, CUstream stream);

}  // namespace gpuferry
