// What the program's CUDA arrays take of the slices.
#pragma once

#include "contexts.h"

namespace gpuferry {

// Whether what is copied at these bytes, rows and layers lies within the array; true for one whose size is not known
// here (a level of a mipmapped one, a packed format).
bool array_holds(CUarray array, size_t x, size_t y, size_t z, const CUDA_MEMCPY3D& copy);

// A context is gone, and its arrays with it.
void forget_arrays(const Context* context);
// The context that an array was made in; null for what is no array of the program's.
const Context* context_of_array(Handle array);

}  // namespace gpuferry
