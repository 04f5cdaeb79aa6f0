// Stream memory operations: waiting for and writing words of memory in a stream's order.
#include "api/entry.h"
#include "device/capture.h"
#include "device/stream.h"
#include "device/work.h"

using namespace softgpu;

namespace {

void submit_batch(CUstream handle, std::vector<CUstreamBatchMemOpParams> operations, unsigned flags) {
    const auto stream = require_stream(handle);
    check_batch(operations);
    BatchWork work{handle_of(stream->context()), std::move(operations), flags};
    if (capture_work(*stream, [&] { return work; })) return;
    stream->enqueue({[work = std::move(work), context = &stream->context()] { perform_batch(work, *context); }});
}

void wait_for(CUstream stream, CUdeviceptr address, uint64_t value, bool wide, unsigned flags) {
    constexpr unsigned known = 3U | CU_STREAM_WAIT_VALUE_FLUSH;
    check_value((flags & ~known) == 0, "unknown flags");
    CUstreamBatchMemOpParams operation{};
    operation.waitValue.operation = wide ? CU_STREAM_MEM_OP_WAIT_VALUE_64 : CU_STREAM_MEM_OP_WAIT_VALUE_32;
    operation.waitValue.address = address;
    if (wide) {
        operation.waitValue.value64 = value;
    } else {
        operation.waitValue.value = static_cast<cuuint32_t>(value);
    }
    operation.waitValue.flags = flags;
    submit_batch(stream, {operation}, 0);
}

void write(CUstream stream, CUdeviceptr address, uint64_t value, bool wide, unsigned flags) {
    check_value((flags & ~unsigned{CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER}) == 0, "unknown flags");
    CUstreamBatchMemOpParams operation{};
    operation.writeValue.operation = wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64 : CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = address;
    if (wide) {
        operation.writeValue.value64 = value;
    } else {
        operation.writeValue.value = static_cast<cuuint32_t>(value);
    }
    operation.writeValue.flags = flags;
    submit_batch(stream, {operation}, 0);
}

}  // namespace

extern "C" CUresult CUDAAPI cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
                                                   unsigned flags) {
    return entry(__func__, [&] { wait_for(stream, addr, value, false, flags); });
}

extern "C" CUresult CUDAAPI cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
                                                   unsigned flags) {
    return entry(__func__, [&] { wait_for(stream, addr, value, true, flags); });
}

extern "C" CUresult CUDAAPI cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
                                                    unsigned flags) {
    return entry(__func__, [&] { write(stream, addr, value, false, flags); });
}

extern "C" CUresult CUDAAPI cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
                                                    unsigned flags) {
    return entry(__func__, [&] { write(stream, addr, value, true, flags); });
}

extern "C" CUresult CUDAAPI cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams* paramArray,
                                                  unsigned flags) {
    return entry(__func__, [&] {
        check_value(paramArray && count && count <= 256 && flags == 0, "no operations, or more than 256");
        submit_batch(stream, {paramArray, paramArray + count}, flags);
    });
}

// The first interface (CUDA 8 to 11) took the same arguments.

extern "C" CUresult CUDAAPI cuStreamWaitValue32(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    return cuStreamWaitValue32_v2(stream, addr, value, flags);
}

extern "C" CUresult CUDAAPI cuStreamWaitValue64(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    return cuStreamWaitValue64_v2(stream, addr, value, flags);
}

extern "C" CUresult CUDAAPI cuStreamWriteValue32(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned flags) {
    return cuStreamWriteValue32_v2(stream, addr, value, flags);
}

extern "C" CUresult CUDAAPI cuStreamWriteValue64(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned flags) {
    return cuStreamWriteValue64_v2(stream, addr, value, flags);
}

extern "C" CUresult CUDAAPI cuStreamBatchMemOp(CUstream stream, unsigned count, CUstreamBatchMemOpParams* paramArray,
                                               unsigned flags) {
    return cuStreamBatchMemOp_v2(stream, count, paramArray, flags);
}
