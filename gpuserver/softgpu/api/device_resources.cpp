// What a device, a context and a stream have to run on. Green contexts, which split it, are not supported: each of them
// has the whole device.
#include "api/entry.h"
#include "device/context.h"
#include "device/device.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

CUdevResource resource_of(const Device& device, CUdevResourceType type) {
    CUdevResource resource{};
    resource.type = type;
    switch (type) {
        case CU_DEV_RESOURCE_TYPE_SM:
            resource.sm.smCount = static_cast<unsigned>(device.config().multiprocessors);
            resource.sm.minSmPartitionSize = resource.sm.smCount;  // it cannot be split
            resource.sm.smCoscheduledAlignment = 1;
            return resource;
        case CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG:
            resource.wqConfig.device = device.ordinal();
            resource.wqConfig.wqConcurrencyLimit = 8;  // CUDA_DEVICE_MAX_CONNECTIONS' default: every stream is a thread
            resource.wqConfig.sharingScope = CU_WORKQUEUE_SCOPE_DEVICE_CTX;
            return resource;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "no such kind of resource");
    }
}

}  // namespace

extern "C" CUresult CUDAAPI cuDeviceGetDevResource(CUdevice device, CUdevResource* resource, CUdevResourceType type) {
    return entry(__func__, [&] {
        const Device& asked = require_device(device);
        check_value(resource, "resource is NULL");
        *resource = resource_of(asked, type);
    });
}

extern "C" CUresult CUDAAPI cuCtxGetDevResource(CUcontext hCtx, CUdevResource* resource, CUdevResourceType type) {
    return entry(__func__, [&] {
        const auto context = require<Context>(hCtx);
        check_value(resource, "resource is NULL");
        *resource = resource_of(context->device(), type);
    });
}

extern "C" CUresult CUDAAPI cuStreamGetDevResource(CUstream hStream, CUdevResource* resource, CUdevResourceType type) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        check_value(resource, "resource is NULL");
        *resource = resource_of(stream->context().device(), type);
    });
}
