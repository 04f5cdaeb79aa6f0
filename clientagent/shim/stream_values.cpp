// cuStreamWaitValue, cuStreamWriteValue, cuStreamBatchMemOp: of device memory, or of pinned host memory, which then
// gets a twin.
#include "stream_values.h"

#include <mutex>
#include <set>

#include "device_memory.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

std::mutex lock;
std::atomic<size_t> count = 0;
std::set<Handle>& waiting() {  // streams
    static auto* all = new std::set<Handle>;
    return *all;
}

void note_wait(CUstream stream) {
    const std::lock_guard held(lock);
    waiting().insert(resolve_stream(stream));
    count = waiting().size();
}

}  // namespace

bool value_wait_pending() {
    return count > 0;
}

void note_waits_over(CUstream stream) {
    if (count == 0) return;
    const std::lock_guard held(lock);
    waiting().erase(resolve_stream(stream));
    count = waiting().size();
}

namespace shim {
namespace {

CUresult check(CUstream stream, CUdeviceptr address, size_t size) {
    if (address % size) return CUDA_ERROR_INVALID_VALUE;
    if (device_memory().holds(address, size)) {
        return is_host_address(address) ? prepare_device_work(server_of_stream(stream)) : CUDA_SUCCESS;
    }
    const CUresult failure =
        prepare_device_work(server_of_stream(stream), {reinterpret_cast<const char*>(&address), sizeof address});
    return failure || is_host_address(address) ? failure : CUDA_ERROR_INVALID_VALUE;
}

// `forward` posts the wait.
template <class Value, class Forward>
CUresult wait_value(CUstream stream, CUdeviceptr address, Value value, unsigned flags, Forward forward) {
    if (const CUresult failure = check(stream, address, sizeof value)) return failure;
    if (is_host_address(address)) watch_word(reinterpret_cast<const void*>(address), sizeof value);
    const CUresult result = forward(stream, address, value, flags);
    if (!result) note_wait(stream);
    return result;
}

template <class Value, class Forward>
CUresult write_value(CUstream stream, CUdeviceptr address, Value value, unsigned flags, Forward forward) {
    const CUresult failure = check(stream, address, sizeof value);
    return failure ? failure : forward(stream, address, value, flags);
}

}  // namespace

CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    return wait_value(stream, addr, value, flags, forward_cuStreamWaitValue32_v2);
}
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    return wait_value(stream, addr, value, flags, forward_cuStreamWaitValue64_v2);
}
CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    return write_value(stream, addr, value, flags, forward_cuStreamWriteValue32_v2);
}
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    return write_value(stream, addr, value, flags, forward_cuStreamWriteValue64_v2);
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams* paramArray, unsigned flags) {
    bool waits = false;
    for (unsigned i = 0; paramArray && count <= 256 && i < count; ++i) {
        const auto& operation = paramArray[i].waitValue;  // writes begin with the same fields
        const bool wait = operation.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ||
                          operation.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
        const bool wide = operation.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 ||
                          operation.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
        const bool narrow = operation.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ||
                            operation.operation == CU_STREAM_MEM_OP_WRITE_VALUE_32;
        if (!wide && !narrow) continue;  // a barrier, or what the server's driver refuses
        const size_t size = wide ? sizeof(cuuint64_t) : sizeof(cuuint32_t);
        if (const CUresult failure = check(stream, operation.address, size)) return failure;
        if (wait && is_host_address(operation.address)) {
            watch_word(reinterpret_cast<const void*>(operation.address), size);
        }
        waits |= wait;
    }
    const CUresult result = forward_cuStreamBatchMemOp_v2(stream, count, paramArray, flags);
    if (!result && waits) note_wait(stream);
    return result;
}

}  // namespace shim
}  // namespace gpuferry
