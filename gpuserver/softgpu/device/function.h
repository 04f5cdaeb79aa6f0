// A kernel as a program launches it: compiled code in a context, with the attributes that can be set.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/context.h"
#include "device/handle.h"

namespace softgpu {

struct Function final : public Object {
    using Handle = CUfunction;
    static constexpr Kind kind = Kind::function;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    std::string name;
    std::weak_ptr<Context> context;
    std::shared_ptr<const LoadedProgram> program;
    size_t kernel_index = 0;
    uint64_t owner = 0;  // handle value of its module
    [[nodiscard]] const KernelInfo& info() const { return program->program().kernels()[kernel_index]; }

    // Settable attributes (cuFuncSetAttribute, cuKernelSetAttribute). -1: not set.
    std::atomic<int> max_dynamic_shared{-1};  // bytes; not set: 48 KiB less the static shared memory
    std::atomic<int> preferred_carveout{-1};
    std::atomic<int> cluster_width{0}, cluster_height{0}, cluster_depth{0};
    std::atomic<int> non_portable_cluster{0};
    std::atomic<int> cluster_policy{CU_CLUSTER_SCHEDULING_POLICY_DEFAULT};
    std::atomic<int> cache_config{CU_FUNC_CACHE_PREFER_NONE};

    // State of the launch interface of before CUDA 4 (cuFuncSetBlockShape, cuParamSet*, cuLaunchGrid).
    std::mutex legacy_mutex;
    Dim3 legacy_block{1, 1, 1};
    uint32_t legacy_shared = 0;
    std::vector<std::byte> legacy_parameters;
};

// What a CUfunction or a CUkernel means in the current context (loads a kernel's function when it is the first use).
// Throws DriverError(CUDA_ERROR_INVALID_HANDLE). Implemented by the images (image/).
std::shared_ptr<Function> resolve_function(CUfunction handle);

}  // namespace softgpu
