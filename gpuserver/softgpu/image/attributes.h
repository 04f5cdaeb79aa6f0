// Attributes of functions and kernels: what they are, which may be set, and to what.
#pragma once

#include "device/device.h"
#include "device/function.h"

namespace softgpu {

// Throws INVALID_VALUE for an attribute that does not exist.
int function_attribute(const Function& function, const Device& device, CUfunction_attribute attribute);
// The same for a kernel that is in no context: what was not set.
int kernel_attribute(const KernelInfo& info, const Device& device, CUfunction_attribute attribute);

// Throws INVALID_VALUE when the attribute may not be set, or not to this.
void check_function_attribute(const KernelInfo& info, const Device& device, CUfunction_attribute attribute, int value);
// Sets a value that was checked.
void set_function_attribute(Function& function, CUfunction_attribute attribute, int value);

// Shared memory that a launch may ask for dynamically: what was set, or what is left of the default limit. Bytes.
int max_dynamic_shared(const Function& function, const Device& device);

}  // namespace softgpu
