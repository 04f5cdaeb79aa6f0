// Launching kernels: the interfaces of today and those of before CUDA 4.
#include "device/launch.h"

#include <cstring>

#include "api/entry.h"
#include "device/capture.h"
#include "device/event.h"

using namespace softgpu;

namespace {

constexpr auto waits = EntryNeeds::outside_callback;

struct Target {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Function> function;
    std::shared_ptr<Context> context;
};

Target resolve(CUfunction handle, CUstream stream_handle) {
    Target target;
    target.stream = require_stream(stream_handle);
    target.function = resolve_function(handle);
    target.context = target.function->context.lock();
    if (!target.context || !target.context->alive()) {
        throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the kernel's context was destroyed");
    }
    if (&target.stream->context() != target.context.get()) {
        throw DriverError(CUDA_ERROR_INVALID_HANDLE, "kernel and stream are of different contexts");
    }
    return target;
}

// What the kernel was compiled with, or its attributes say, unless the launch says otherwise.
Dim3 default_cluster(const Function& function) {
    if (function.info().required_cluster.volume()) return function.info().required_cluster;
    const auto size = [](int set) { return static_cast<uint32_t>(set > 0 ? set : 1); };
    return {size(function.cluster_width), size(function.cluster_height), size(function.cluster_depth)};
}

CUresult launch(CUfunction handle, Dim3 grid, Dim3 block, unsigned shared_bytes, CUstream stream, void** parameters,
                void** extra, bool cooperative) {
    const Target target = resolve(handle, stream);
    LaunchOptions options;
    options.cooperative = cooperative;
    options.cluster = default_cluster(*target.function);
    options.handle = handle;
    check_launch(target.context->device(), *target.function, grid, block, shared_bytes, options);
    return submit_launch(*target.context, target.stream, target.function, grid, block, shared_bytes,
                         gather_parameters(target.function->info(), parameters, extra), options);
}

}  // namespace

extern "C" CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned gridDimX, unsigned gridDimY, unsigned gridDimZ,
                                           unsigned blockDimX, unsigned blockDimY, unsigned blockDimZ,
                                           unsigned sharedMemBytes, CUstream hStream, void** kernelParams,
                                           void** extra) {
    return entry(__func__, waits, [&] {
        return launch(f, {gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, hStream,
                      kernelParams, extra, false);
    });
}

extern "C" CUresult CUDAAPI cuLaunchCooperativeKernel(CUfunction f, unsigned gridDimX, unsigned gridDimY,
                                                      unsigned gridDimZ, unsigned blockDimX, unsigned blockDimY,
                                                      unsigned blockDimZ, unsigned sharedMemBytes, CUstream hStream,
                                                      void** kernelParams) {
    return entry(__func__, waits, [&] {
        return launch(f, {gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, hStream,
                      kernelParams, nullptr, true);
    });
}

extern "C" CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                                             void** extra) {
    return entry(__func__, waits, [&] {
        check_value(config && (config->numAttrs == 0 || config->attrs), "config or its attributes are NULL");
        const Target target = resolve(f, config->hStream);
        LaunchOptions options;
        options.handle = f;
        options.cluster = default_cluster(*target.function);
        std::vector<std::shared_ptr<Event>> completion;
        for (unsigned i = 0; i < config->numAttrs; ++i) {
            const CUlaunchAttributeValue& value = config->attrs[i].value;
            switch (config->attrs[i].id) {
                case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
                    options.cooperative = value.cooperative != 0;
                    break;
                case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
                    options.cluster = {value.clusterDim.x, value.clusterDim.y, value.clusterDim.z};
                    break;
                case CU_LAUNCH_ATTRIBUTE_PRIORITY:
                    options.priority = value.priority;
                    break;
                case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
                    options.programmatic_serialization = value.programmaticStreamSerializationAllowed != 0;
                    break;
                case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
                    // Complete when the kernel is: later than it may be, never earlier.
                    completion.push_back(require<Event>(value.programmaticEvent.event));
                    break;
                case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                    completion.push_back(require<Event>(value.launchCompletionEvent.event));
                    break;
                case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
                    if (value.deviceUpdatableKernelNode.deviceUpdatable) return CUDA_ERROR_NOT_SUPPORTED;
                    break;
                case CU_LAUNCH_ATTRIBUTE_IGNORE:
                case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
                case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
                case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
                case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
                case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
                case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
                case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
                case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
                    break;  // hints: they change no result
                default:
                    return CUDA_ERROR_INVALID_VALUE;
            }
        }
        const Dim3 grid{config->gridDimX, config->gridDimY, config->gridDimZ};
        const Dim3 block{config->blockDimX, config->blockDimY, config->blockDimZ};
        check_launch(target.context->device(), *target.function, grid, block, config->sharedMemBytes, options);
        const CUresult result =
            submit_launch(*target.context, target.stream, target.function, grid, block, config->sharedMemBytes,
                          gather_parameters(target.function->info(), kernelParams, extra), options);
        for (const auto& event : completion) {
            if (!capture_record(*target.stream, event, false)) event->record(*target.stream);
        }
        return result;
    });
}

// --- before CUDA 4

extern "C" CUresult CUDAAPI cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z) {
    return entry(__func__, [&] {
        const auto function = resolve_function(hfunc);
        check_value(x > 0 && y > 0 && z > 0, "a dimension is not positive");
        const std::lock_guard lock(function->legacy_mutex);
        function->legacy_block = {static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(z)};
    });
}

extern "C" CUresult CUDAAPI cuFuncSetSharedSize(CUfunction hfunc, unsigned bytes) {
    return entry(__func__, [&] {
        const auto function = resolve_function(hfunc);
        const std::lock_guard lock(function->legacy_mutex);
        function->legacy_shared = bytes;
    });
}

extern "C" CUresult CUDAAPI cuParamSetSize(CUfunction hfunc, unsigned numbytes) {
    return entry(__func__, [&] {
        const auto function = resolve_function(hfunc);
        check_value(numbytes <= function->info().parameter_bytes, "more bytes than the kernel has parameters");
        const std::lock_guard lock(function->legacy_mutex);
        function->legacy_parameters.resize(function->info().parameter_bytes);
    });
}

extern "C" CUresult CUDAAPI cuParamSetv(CUfunction hfunc, int offset, void* ptr, unsigned numbytes) {
    return entry(__func__, [&] {
        const auto function = resolve_function(hfunc);
        const uint64_t bytes = function->info().parameter_bytes;
        check_value(ptr && offset >= 0 && static_cast<uint64_t>(offset) <= bytes &&
                        numbytes <= bytes - static_cast<uint64_t>(offset),
                    "outside the kernel's parameters");
        const std::lock_guard lock(function->legacy_mutex);
        function->legacy_parameters.resize(bytes);
        std::memcpy(function->legacy_parameters.data() + offset, ptr, numbytes);
    });
}

extern "C" CUresult CUDAAPI cuParamSeti(CUfunction hfunc, int offset, unsigned value) {
    return cuParamSetv(hfunc, offset, &value, sizeof value);
}

extern "C" CUresult CUDAAPI cuParamSetf(CUfunction hfunc, int offset, float value) {
    return cuParamSetv(hfunc, offset, &value, sizeof value);
}

namespace {

CUresult launch_legacy(CUfunction handle, int width, int height, CUstream stream) {
    const auto function = resolve_function(handle);
    check_value(width > 0 && height > 0, "a dimension is not positive");
    Dim3 block;
    uint32_t shared = 0;
    std::vector<std::byte> parameters;
    {
        const std::lock_guard lock(function->legacy_mutex);
        block = function->legacy_block;
        shared = function->legacy_shared;
        parameters = function->legacy_parameters;
    }
    parameters.resize(function->info().parameter_bytes);
    const Target target = resolve(handle, stream);
    LaunchOptions options;
    options.handle = handle;
    return submit_launch(*target.context, target.stream, target.function,
                         {static_cast<uint32_t>(width), static_cast<uint32_t>(height), 1}, block, shared,
                         std::move(parameters), options);
}

}  // namespace

extern "C" CUresult CUDAAPI cuLaunch(CUfunction f) {
    return entry(__func__, waits, [&] { return launch_legacy(f, 1, 1, nullptr); });
}

extern "C" CUresult CUDAAPI cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
    return entry(__func__, waits, [&] { return launch_legacy(f, grid_width, grid_height, nullptr); });
}

extern "C" CUresult CUDAAPI cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
    return entry(__func__, waits, [&] { return launch_legacy(f, grid_width, grid_height, hStream); });
}
