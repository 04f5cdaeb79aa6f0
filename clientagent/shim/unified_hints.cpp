// Hints about where managed memory should be: checked, and without effect, because the server's GPU reaches its twin.
#include "device_memory.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

CUresult check(CUdeviceptr address, size_t size) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUdeviceptr base = 0;
    Stretch stretch;
    const bool managed = device_memory().find(address, base, stretch) && stretch.origin == Stretch::Origin::managed;
    return managed && size && device_memory().holds(address, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult check_device(CUdevice device) {
    return device == CU_DEVICE_CPU || client().device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise, CUdevice device) {
    const CUresult failure = check(devPtr, count);
    return failure ? failure : check_device(device);
}

CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise, CUmemLocation) {
    return check(devPtr, count);
}

CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream) {
    const CUresult failure = check(devPtr, count);
    return failure ? failure : check_device(dstDevice);
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation, unsigned, CUstream) {
    return check(devPtr, count);
}

CUresult cuStreamAttachMemAsync(CUstream, CUdeviceptr dptr, size_t length, unsigned) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!device_memory().find(dptr, base, stretch)) return CUDA_ERROR_INVALID_VALUE;
    return check(dptr, length ? length : stretch.size);
}

}  // namespace gpuferry::shim
