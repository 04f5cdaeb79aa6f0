// Launches: checked here against the device's and the function's limits, packed by the kernel's layout, posted.
#include <array>
#include <cstring>

#include "call.h"
#include "functions.h"
#include "launch_frame.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

// What the driver reports from the launch call itself.
CUresult check_limits(const Device& device, const Function& function, const LaunchFrame& frame) {
    constexpr int grid_limits[] = {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                                   CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z};
    constexpr int block_limits[] = {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                                    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z};
    for (int i = 0; i < 3; ++i) {
        if (!frame.grid[i] || frame.grid[i] > static_cast<unsigned>(device.attribute(grid_limits[i])) ||
            !frame.block[i] || frame.block[i] > static_cast<unsigned>(device.attribute(block_limits[i]))) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    const uint64_t threads = uint64_t{frame.block[0]} * frame.block[1] * frame.block[2];
    if (threads > static_cast<uint64_t>(device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)) ||
        threads > static_cast<uint64_t>(function.attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (frame.shared_bytes > static_cast<unsigned>(function.dynamic_shared_limit)) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

// The packed parameters: from the array of pointers, or as `extra` brings them.
CUresult find_parameters(const Function& function, void** pointers, void** extra, const char*& bytes, size_t& size,
                         std::array<char, 4096>& small, std::unique_ptr<char[]>& large) {
    if (pointers && extra) return CUDA_ERROR_INVALID_VALUE;
    if (extra) {
        bytes = nullptr;
        for (int i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
            if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
                bytes = static_cast<const char*>(extra[i + 1]);
            } else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE) {
                size = *static_cast<const size_t*>(extra[i + 1]);
            } else {
                return CUDA_ERROR_INVALID_VALUE;
            }
        }
        if (!bytes && size) return CUDA_ERROR_INVALID_VALUE;
        return size > most_parameter_bytes ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    }
    if (!pointers && !function.parameters.empty()) return CUDA_ERROR_INVALID_VALUE;
    size = function.parameter_bytes;
    char* place = small.data();
    if (size > small.size()) {
        large = std::make_unique<char[]>(size);
        place = large.get();
    }
    std::memset(place, 0, size);
    for (size_t i = 0; i < function.parameters.size(); ++i) {
        const Parameter& parameter = function.parameters[i];
        if (!pointers[i]) return CUDA_ERROR_INVALID_VALUE;
        std::memcpy(place + parameter.offset, pointers[i], parameter.size);
    }
    bytes = place;
    return CUDA_SUCCESS;
}

CUresult launch(CUfunction handle, LaunchFrame& frame, CUstream stream, void** pointers, void** extra,
                const CUlaunchAttribute* attributes) {
    const Context* context = current_context();
    CUresult failure = check_usable(context);
    if (failure) return failure;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    failure = check_limits(*client().device(context->device), *function, frame);
    if (failure) return failure;
    std::array<char, 4096> small;
    std::unique_ptr<char[]> large;
    const char* bytes = nullptr;
    size_t size = 0;
    failure = find_parameters(*function, pointers, extra, bytes, size, small, large);
    if (failure) return failure;

    failure = prepare_device_work({bytes, size});
    if (failure) return failure;
    frame.parameter_bytes = static_cast<uint32_t>(size);
    Call call(Op::launch);
    call.value<uint64_t>(function->handle);
    call.handle(Kind::stream, stream);
    call.value(frame);
    call.bytes({bytes, size});
    call.bytes({reinterpret_cast<const char*>(attributes), frame.attributes * sizeof(CUlaunchAttribute)});
    return call.post();
}

}  // namespace

namespace shim {

CUresult cuLaunchKernel(CUfunction f, unsigned gridDimX, unsigned gridDimY, unsigned gridDimZ, unsigned blockDimX,
                        unsigned blockDimY, unsigned blockDimZ, unsigned sharedMemBytes, CUstream hStream,
                        void** kernelParams, void** extra) {
    LaunchFrame frame{{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, 0, 0, 0};
    return launch(f, frame, hStream, kernelParams, extra, nullptr);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned gridDimX, unsigned gridDimY, unsigned gridDimZ,
                                   unsigned blockDimX, unsigned blockDimY, unsigned blockDimZ, unsigned sharedMemBytes,
                                   CUstream hStream, void** kernelParams) {
    LaunchFrame frame{{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, 0, 1, 0};
    CUlaunchAttribute cooperative{};
    cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    cooperative.value.cooperative = 1;
    return launch(f, frame, hStream, kernelParams, nullptr, &cooperative);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** kernelParams, void** extra) {
    if (!config || (config->numAttrs && !config->attrs)) return CUDA_ERROR_INVALID_VALUE;
    if (config->numAttrs > most_launch_attributes) return CUDA_ERROR_INVALID_VALUE;
    LaunchFrame frame{{config->gridDimX, config->gridDimY, config->gridDimZ},
                      {config->blockDimX, config->blockDimY, config->blockDimZ},
                      config->sharedMemBytes,
                      0,
                      config->numAttrs,
                      0};
    return launch(f, frame, config->hStream, kernelParams, extra, config->attrs);
}

}  // namespace shim
}  // namespace gpuferry
