// The two ways between this process's memory and a GPU's.
#pragma once

#include <cstddef>

#include "cuda_api.h"

namespace gpuferry {

// Posts the bytes, which are taken when the call returns.
CUresult upload(CUdeviceptr destination, const void* source, size_t size, CUstream stream);
// Waits until the bytes are there.
CUresult download(void* destination, CUdeviceptr source, size_t size, CUstream stream);
// How many pieces of one blocking download are asked for ahead.
constexpr size_t pieces_on_the_way = 4;
// Whether the source's bytes are not there yet, or not here: earlier work of the device or of host functions fills it,
// or the program itself before it opens a stream's way, or the device reaches it.
bool is_unsettled(const void* source, size_t size);

}  // namespace gpuferry
