// Which contexts reach the memory of which other GPUs.
#pragma once

#include "contexts.h"

namespace gpuferry {

// Whether one GPU may reach another's memory at all: two of one server, perhaps.
bool can_access(const Device& device, const Device& peer);
// Whether the context's kernels reach the memory of this GPU.
bool reaches(const Context* context, CUdevice device);
// The context is gone.
void forget_peers(const Context* context);

}  // namespace gpuferry
