// What the program's CUDA arrays take of the slices.
#pragma once

#include "contexts.h"

namespace gpuferry {

// A context is gone, and its arrays with it.
void forget_arrays(const Context* context);

}  // namespace gpuferry
