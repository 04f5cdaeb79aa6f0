// Ending an allocation, whatever its kind.
#pragma once

#include "device/memory.h"

namespace softgpu {

// Takes it out of the memory map and returns what it took: to the device, the pool or the host. Once only: a second
// call does nothing.
void release_allocation(const AllocationPtr& allocation);

}  // namespace softgpu
