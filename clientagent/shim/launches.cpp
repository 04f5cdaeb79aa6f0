// Launches: checked here against the device's and the function's limits, packed by the kernel's layout, posted.
#include <algorithm>
#include <cstring>

#include "call.h"
#include "device_memory.h"
#include "launch_parameters.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {

CUresult check_launch_limits(const Device& device, const Function& function, const LaunchFrame& frame) {
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
    const BlockShape& required = function.required_block;
    if (required[0] && !std::equal(required.begin(), required.end(), frame.block)) return CUDA_ERROR_INVALID_VALUE;
    if (frame.shared_bytes > static_cast<unsigned>(function.dynamic_shared_limit)) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

// Zeros for all of a function's parameters, which `packed` holds from now on.
static char* room_for(const Function& function, PackedParameters& packed) {
    packed.size = function.parameter_bytes;
    char* place = packed.small.data();
    if (packed.size > packed.small.size()) {
        packed.large = std::make_unique<char[]>(packed.size);
        place = packed.large.get();
    }
    std::memset(place, 0, packed.size);
    packed.bytes = place;
    return place;
}

CUresult pack_parameters(const Function& function, void** pointers, void** extra, PackedParameters& packed) {
    if (pointers && extra) return CUDA_ERROR_INVALID_VALUE;
    if (extra) {
        for (int i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
            if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
                packed.bytes = static_cast<const char*>(extra[i + 1]);
            } else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE) {
                packed.size = *static_cast<const size_t*>(extra[i + 1]);
            } else {
                return CUDA_ERROR_INVALID_VALUE;
            }
        }
        if ((!packed.bytes && packed.size) || packed.size > most_parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
        if (packed.size >= function.parameter_bytes) return CUDA_SUCCESS;
        // It may be shorter than the parameters: NCCL gives only as much of its 4 KB as it has filled.
        const char* given = packed.bytes;
        const size_t size = packed.size;
        char* place = room_for(function, packed);
        if (size) std::memcpy(place, given, size);
        return CUDA_SUCCESS;
    }
    if (!pointers && !function.parameters.empty()) return CUDA_ERROR_INVALID_VALUE;
    char* place = room_for(function, packed);
    for (size_t i = 0; i < function.parameters.size(); ++i) {
        const Parameter& parameter = function.parameters[i];
        if (!pointers[i]) return CUDA_ERROR_INVALID_VALUE;
        std::memcpy(place + parameter.offset, pointers[i], parameter.size);
    }
    return CUDA_SUCCESS;
}

namespace {

bool is_cooperative(const LaunchFrame& frame, const CUlaunchAttribute* attributes) {
    for (unsigned i = 0; i < frame.attributes; ++i) {
        if (attributes[i].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE && attributes[i].value.cooperative) return true;
    }
    return false;
}

// All blocks of a cooperative launch must be on the device at once.
CUresult check_cooperative(const Device& device, const Function& function, const LaunchFrame& frame) {
    const uint64_t blocks = uint64_t{frame.grid[0]} * frame.grid[1] * frame.grid[2];
    const auto threads = static_cast<int>(frame.block[0] * frame.block[1] * frame.block[2]);
    const auto fitting = static_cast<uint64_t>(active_blocks(device, function, threads, frame.shared_bytes)) *
                         static_cast<uint64_t>(device.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
    return blocks > fitting ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CUDA_SUCCESS;
}

// A function's first launch loads its code and variables: where memory is scarce, whether that succeeds is the call's
// own answer.
CUresult send(Call& call, Function& function, CUdevice device) {
    const bool first = !function.launched.load(std::memory_order_relaxed) && !function.launched.exchange(true);
    if (!first || !device_memory().scarce(device)) return call.post();
    call.ask();
    return call.result();
}

CUresult launch(CUfunction handle, LaunchFrame& frame, CUstream stream, void** pointers, void** extra,
                const CUlaunchAttribute* attributes) {
    const Context* context = current_context();
    CUresult failure = check_usable(context);
    if (failure) return failure;
    Function* function = find_function(handle, failure);
    if (!function) return failure;
    const Device& device = *client().device(context->device);
    failure = check_launch_limits(device, *function, frame);
    if (failure) return failure;
    if (frame.attributes && is_cooperative(frame, attributes)) {
        failure = check_cooperative(device, *function, frame);
        if (failure) return failure;
    }
    PackedParameters packed;
    failure = pack_parameters(*function, pointers, extra, packed);
    if (failure) return failure;

    const std::span<const char> bytes(packed.bytes, packed.size);
    failure = prepare_device_work(*context->server, bytes);
    if (failure) return failure;
    frame.parameter_bytes = static_cast<uint32_t>(bytes.size());
    Call call(Op::launch);
    call.handle(Kind::function, function->handle);
    call.handle(Kind::stream, stream);
    call.value(frame);
    call.bytes(bytes);
    call.bytes({reinterpret_cast<const char*>(attributes), frame.attributes * sizeof(CUlaunchAttribute)});
    return send(call, *function, context->device);
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
