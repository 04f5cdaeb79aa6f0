// Launching a kernel into a stream.
#pragma once

#include <memory>
#include <vector>

#include "device/function.h"
#include "device/stream.h"

namespace softgpu {

struct LaunchOptions {
    bool cooperative = false;
    Dim3 cluster{1, 1, 1};
    int priority = 0;
    bool programmatic_serialization = false;
    CUfunction handle = nullptr;  // as the program gave it (a CUkernel, say); for cuGraphKernelNodeGetParams
};

// Checks the launch against the device's and the kernel's limits with CUDA's codes, then queues it (or adds a node
// when the stream captures). `parameters` is the kernel's parameter buffer. Throws DriverError for a launch that
// cannot be.
CUresult submit_launch(Context& context, const std::shared_ptr<Stream>& stream,
                       const std::shared_ptr<Function>& function, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                       std::vector<std::byte> parameters, const LaunchOptions& options = {});

// Gathers `kernel_parameters` or `extra` (CU_LAUNCH_PARAM_*) into one buffer. Throws INVALID_VALUE.
std::vector<std::byte> gather_parameters(const KernelInfo& kernel, void** kernel_parameters, void** extra);

// Bytes of dynamic shared memory that a launch of the function may ask for.
int max_dynamic_shared(const Device& device, const Function& function);

// Throws with CUDA's code when the launch exceeds a limit of the device or the kernel.
void check_launch(const Device& device, const Function& function, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                  const LaunchOptions& options);

}  // namespace softgpu
