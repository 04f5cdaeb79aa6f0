// cuStreamWaitValue, cuStreamWriteValue: of device memory, or of pinned host memory, which then gets a twin.
#include "device_memory.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry::shim {
namespace {

CUresult check(CUstream stream, CUdeviceptr address, size_t size) {
    if (address % size) return CUDA_ERROR_INVALID_VALUE;
    if (!is_host_address(address)) {
        return device_memory().holds(address, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    return prepare_device_work(server_of_stream(stream), {reinterpret_cast<const char*>(&address), sizeof address});
}

}  // namespace

CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    const CUresult failure = check(stream, addr, sizeof value);
    return failure ? failure : forward_cuStreamWaitValue32_v2(stream, addr, value, flags);
}
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    const CUresult failure = check(stream, addr, sizeof value);
    return failure ? failure : forward_cuStreamWaitValue64_v2(stream, addr, value, flags);
}
CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    const CUresult failure = check(stream, addr, sizeof value);
    return failure ? failure : forward_cuStreamWriteValue32_v2(stream, addr, value, flags);
}
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    const CUresult failure = check(stream, addr, sizeof value);
    return failure ? failure : forward_cuStreamWriteValue64_v2(stream, addr, value, flags);
}

}  // namespace gpuferry::shim
