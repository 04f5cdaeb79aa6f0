// Copies of linear memory. Bytes that go up are posted and taken before the call returns; bytes that come down are
// asked for in pieces, several on the way at once, each straight to its place.
#include <cstring>
#include <deque>
#include <memory>

#include "between_servers.h"
#include "copies.h"
#include "deliveries.h"
#include "host_functions.h"
#include "host_memory.h"
#include "stream_values.h"
#include "twins.h"

namespace gpuferry {

CUresult upload(CUdeviceptr destination, const void* source, size_t size, CUstream stream) {
    const auto* bytes = static_cast<const char*>(source);
    for (size_t done = 0; done < size;) {
        const size_t piece = std::min<size_t>(size - done, copy_chunk);
        Call call(Op::copy_in);
        call.value<uint64_t>(destination + done);
        call.value<uint64_t>(piece);
        call.handle(Kind::stream, stream);
        if (const CUresult failure = call.post({bytes + done, piece})) return failure;
        done += piece;
    }
    return CUDA_SUCCESS;
}

CUresult download(void* destination, CUdeviceptr source, size_t size, CUstream stream) {
    auto* bytes = static_cast<char*>(destination);
    std::deque<std::unique_ptr<Call>> pieces;
    CUresult result = CUDA_SUCCESS;
    size_t asked = 0;
    uint64_t last = 0;
    while (asked < size || !pieces.empty()) {
        if (!result && asked < size && pieces.size() < pieces_on_the_way) {
            const size_t piece = std::min<size_t>(size - asked, copy_chunk);
            auto call = std::make_unique<Call>(Op::copy_out);
            call->value<uint64_t>(source + asked);
            call->value<uint64_t>(piece);
            call->handle(Kind::stream, stream);
            call->receive_into(bytes + asked, piece);
            if (call->begin(asked + piece >= size)) {
                pieces.push_back(std::move(call));
            } else {
                result = call->result();
            }
            asked += piece;
            continue;
        }
        if (pieces.empty()) break;
        pieces.front()->await(pieces.size() == 1 && asked >= size);
        if (!result) result = pieces.front()->result();
        last = pieces.front()->number();
        pieces.pop_front();
    }
    if (!result) note_stream_idle(stream, last);
    return result;
}

bool is_unsettled(const void* source, size_t size) {
    return in_twin(source, size) ||
           ((host_functions_pending() || value_wait_pending()) && host_memory().is_pinned(source, size));
}

namespace shim {
namespace {

// The bytes arrive with a later reply, at the latest with the one of the call that waits for the stream.
CUresult download_later(void* destination, CUdeviceptr source, size_t size, CUstream stream) {
    const uint64_t number = expect_copy(destination, size);
    for (size_t done = 0; done < size;) {
        const size_t piece = std::min<size_t>(size - done, copy_chunk);
        Call call(Op::copy_out_later);
        call.value<uint64_t>(source + done);
        call.value<uint64_t>(piece);
        call.handle(Kind::stream, stream);
        call.value<uint64_t>(number);
        call.value<uint64_t>(done);
        if (const CUresult failure = call.post()) {
            forget_copy(number);
            return failure;
        }
        done += piece;
    }
    return CUDA_SUCCESS;
}

CUresult check_device(CUdeviceptr address, size_t size, CUstream stream) {
    const Context* context = current_context();
    if (const CUresult failure = check_usable(context)) return failure;
    if (!device_memory().holds(address, size)) return CUDA_ERROR_INVALID_VALUE;
    return is_host_address(address) ? prepare_device_work(server_of_stream(stream)) : CUDA_SUCCESS;
}

// The copy's host memory is named by its twin, and read or written in the stream's turn: in a captured stream whenever
// the graph runs, else when what the stream does before is done.
CUresult copy_by_twin(CUdeviceptr destination, CUdeviceptr source, size_t size, bool from_host, bool to_host,
                      CUstream stream, bool capturing) {
    uint64_t from = source, to = destination;
    Server& server = server_of_stream(stream);
    if (from_host) {
        if (const CUresult failure = find_server_address(server, reinterpret_cast<const void*>(source), size, from)) {
            return failure;
        }
    }
    if (to_host) {
        if (const CUresult failure =
                find_server_address(server, reinterpret_cast<const void*>(destination), size, to)) {
            return failure;
        }
    }
    if (!capturing) {
        if (const CUresult failure = prepare_device_work(server)) return failure;
    }
    Call call(Op::copy_by_twin);
    call.value(to);
    call.value(from);
    call.value<uint64_t>(size);
    call.value<uint64_t>(from_host);
    call.value<uint64_t>(to_host);
    call.handle(Kind::stream, stream);
    if (!capturing) return call.post();
    call.ask();
    return call.result();
}

CUresult host_to_device(CUdeviceptr destination, const void* source, size_t size, CUstream stream, bool blocking) {
    if (size == 0) return check_usable(current_context());
    if (const CUresult failure = check_device(destination, size, stream)) return failure;
    if (!source) return CUDA_ERROR_INVALID_VALUE;
    if (is_elsewhere(destination, stream)) {
        return do_elsewhere(context_around(destination), stream,
                            [&] { return upload(destination, source, size, nullptr); });
    }
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    if (capturing) {
        return copy_by_twin(destination, reinterpret_cast<CUdeviceptr>(source), size, true, false, stream, true);
    }
    if (blocking) {
        if (const CUresult failure = forbid_during_capture()) return failure;
    }
    if (copy_pending(source, size)) {
        if (const CUresult failure = shim::cuCtxSynchronize()) return failure;
    } else if (is_unsettled(source, size)) {
        const CUresult failure =
            copy_by_twin(destination, reinterpret_cast<CUdeviceptr>(source), size, true, false, stream, false);
        return failure || !blocking ? failure : shim::cuStreamSynchronize(stream);
    }
    if (const CUresult failure = upload(destination, source, size, stream)) return failure;
    // From pinned memory a blocking copy is complete when it returns; from pageable memory its bytes are taken. What is
    // posted behind it finds them, in order; a stream that does not wait for the copy's own might be there first
    // (cuFFT sets a variable by a copy of the default stream, and JAX runs its kernel in a stream of its own).
    const bool complete = host_memory().is_pinned(source, size) || non_blocking_streams_used();
    return blocking && complete ? shim::cuStreamSynchronize(stream) : CUDA_SUCCESS;
}

CUresult device_to_host(void* destination, CUdeviceptr source, size_t size, CUstream stream, bool blocking) {
    if (size == 0) return check_usable(current_context());
    if (const CUresult failure = check_device(source, size, stream)) return failure;
    if (!destination) return CUDA_ERROR_INVALID_VALUE;
    if (is_elsewhere(source, stream)) {
        return do_elsewhere(context_around(source), stream,
                            [&] { return download(destination, source, size, nullptr); });
    }
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    if (capturing) {
        return copy_by_twin(reinterpret_cast<CUdeviceptr>(destination), source, size, false, true, stream, true);
    }
    if (blocking) {
        if (const CUresult failure = forbid_during_capture()) return failure;
    }
    // The stream may be waiting for what the program has written to memory that the device sees.
    if (const CUresult failure = prepare_device_work(server_of_stream(stream))) return failure;
    if (in_twin(destination, size)) {  // the device may read it: its twin gets the bytes, and this process with them
        const CUresult failure =
            copy_by_twin(reinterpret_cast<CUdeviceptr>(destination), source, size, false, true, stream, false);
        return failure || !blocking ? failure : shim::cuStreamSynchronize(stream);
    }
    if (!blocking && host_memory().is_pinned(destination, size)) {
        return download_later(destination, source, size, stream);
    }
    return download(destination, source, size, stream);
}

// Between GPUs, at least one of them of another server than the stream's.
CUresult copy_elsewhere(CUdeviceptr destination, CUdeviceptr source, size_t size, CUstream stream) {
    const Context *to = context_around(destination), *from = context_around(source);
    if (!to || !from) return CUDA_ERROR_INVALID_VALUE;
    if (to->server == from->server) {
        return do_elsewhere(to, stream, [&] { return shim::cuMemcpyDtoDAsync_v2(destination, source, size, nullptr); });
    }
    return do_elsewhere(to, stream, [&] { return copy_between(destination, *to, source, *from, size); });
}

CUresult device_to_device(CUdeviceptr destination, CUdeviceptr source, size_t size, CUstream stream) {
    if (size == 0) return check_usable(current_context());
    if (const CUresult failure = check_device(destination, size, stream)) return failure;
    if (const CUresult failure = check_device(source, size, stream)) return failure;
    if (is_elsewhere(destination, stream) || is_elsewhere(source, stream)) {
        return copy_elsewhere(destination, source, size, stream);
    }
    Call call(Op::copy_within);
    call.value(destination);
    call.value(source);
    call.value(size);
    call.handle(Kind::stream, stream);
    return call.post();
}

// The copy whose direction the addresses tell.
CUresult any_to_any(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream, bool blocking) {
    CUdeviceptr base = 0;
    Stretch stretch;
    const bool to_device = device_memory().find(to, base, stretch);
    const bool from_device = device_memory().find(from, base, stretch);
    if (to_device && from_device) return device_to_device(to, from, size, stream);
    if (to_device) return host_to_device(to, reinterpret_cast<const void*>(from), size, stream, blocking);
    if (from_device) return device_to_host(reinterpret_cast<void*>(to), from, size, stream, blocking);
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    if (capturing) return copy_by_twin(to, from, size, true, true, stream, true);
    // Between two host buffers: behind all earlier work of the stream.
    if (const CUresult failure = shim::cuStreamSynchronize(stream)) return failure;
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), size);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
    return host_to_device(dstDevice, srcHost, ByteCount, nullptr, true);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount, CUstream hStream) {
    return host_to_device(dstDevice, srcHost, ByteCount, hStream, false);
}
CUresult cuMemcpyDtoH_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
    return device_to_host(dstHost, srcDevice, ByteCount, nullptr, true);
}
CUresult cuMemcpyDtoHAsync_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
    return device_to_host(dstHost, srcDevice, ByteCount, hStream, false);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
    return device_to_device(dstDevice, srcDevice, ByteCount, nullptr);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
    return device_to_device(dstDevice, srcDevice, ByteCount, hStream);
}
CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
    return any_to_any(dst, src, ByteCount, nullptr, true);
}
CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
    return any_to_any(dst, src, ByteCount, hStream, false);
}

}  // namespace shim
}  // namespace gpuferry
