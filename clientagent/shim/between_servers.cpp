// Copies between GPUs of two servers, and streams that wait for events of another server.
#include "between_servers.h"

#include <memory>
#include <vector>

#include "copies.h"
#include "host_functions.h"
#include "peers.h"
#include "twins.h"

namespace gpuferry {
namespace {

constexpr size_t staging_bytes = 16u << 20;

}  // namespace

const Context* context_around(CUdeviceptr address) {
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!device_memory().find(address, base, stretch)) return nullptr;
    const Server* server = client().device(stretch.device)->server;
    const bool own = stretch.context && !stretch.context->destroyed && stretch.context->server == server;
    return own ? stretch.context : primary_context(stretch.device);
}

bool is_elsewhere(CUdeviceptr address, CUstream stream) {
    if (!client().has_several_servers()) return false;
    const Snapshot& snapshot = client().snapshot();
    if (address - snapshot.host_base < snapshot.host_size) return false;  // managed memory: every server has it
    Server* server = nullptr;
    return device_memory().holds(address, 1, server) && server != &server_of_stream(stream);
}

CUresult copy_between(CUdeviceptr to, const Context& to_context, CUdeviceptr from, const Context& from_context,
                      size_t size) {
    std::vector<char> bytes(std::min(size, staging_bytes));
    for (size_t done = 0; done < size; done += bytes.size()) {
        const size_t piece = std::min(size - done, bytes.size());
        {
            const ContextScope scope(from_context);
            if (const CUresult failure = download(bytes.data(), from + done, piece, nullptr)) return failure;
        }
        const ContextScope scope(to_context);
        if (const CUresult failure = upload(to + done, bytes.data(), piece, nullptr)) return failure;
    }
    const ContextScope scope(to_context);
    return shim::cuStreamSynchronize(nullptr);
}

namespace {

struct Side {
    CUdeviceptr address = 0;
    const Context* context = nullptr;
};

// False where the context is none of another server: then the server's driver has the say.
bool find_side(CUdeviceptr address, CUcontext handle, Side& side) {
    bool known = false;
    side = {address, find_context(handle, known)};
    return side.context != nullptr;
}

CUresult check_side(const Side& side, size_t size) {
    if (const CUresult failure = check_usable(side.context)) return failure;
    const ContextScope scope(*side.context);
    Server* server = nullptr;
    const bool held = device_memory().holds(side.address, size, server) && server == side.context->server;
    return held ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult copy_between_peers(const Side& to, const Side& from, size_t size, CUstream stream, bool blocking) {
    if (const CUresult failure = check_usable(current_context())) return failure;
    if (!size) return CUDA_SUCCESS;
    if (const CUresult failure = check_side(to, size)) return failure;
    if (const CUresult failure = check_side(from, size)) return failure;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (const CUresult failure = shim::cuStreamSynchronize(stream)) return failure;
    for (const Side* side : {&from, &to}) {  // CUDA orders such a copy with all work of both GPUs
        if (!blocking) break;
        const ContextScope scope(*side->context);
        if (const CUresult failure = shim::cuCtxSynchronize()) return failure;
    }
    return copy_between(to.address, *to.context, from.address, *from.context, size);
}

}  // namespace

namespace shim {

CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                      size_t ByteCount) {
    Side to, from;
    if (!client().has_several_servers() || !find_side(dstDevice, dstContext, to) ||
        !find_side(srcDevice, srcContext, from) || to.context->server == from.context->server) {
        return forward_cuMemcpyPeer(dstDevice, dstContext, srcDevice, srcContext, ByteCount);
    }
    return copy_between_peers(to, from, ByteCount, nullptr, true);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                           size_t ByteCount, CUstream hStream) {
    Side to, from;
    const auto here = [&](const Side& side) { return side.context->server == &server_of_stream(hStream); };
    if (!client().has_several_servers() || !find_side(dstDevice, dstContext, to) ||
        !find_side(srcDevice, srcContext, from) || (here(to) && here(from))) {
        return forward_cuMemcpyPeerAsync(dstDevice, dstContext, srcDevice, srcContext, ByteCount, hStream);
    }
    return copy_between_peers(to, from, ByteCount, hStream, false);
}

namespace {

void CUDA_CB await_event(void* waiting) {
    const std::unique_ptr<Call> call(static_cast<Call*>(waiting));
    call->await(false);
}

}  // namespace

// A stream of one server cannot wait for an event of another by itself: in the stream's turn, a host function of this
// process waits for what the event's server answers. That is asked for now, because the event may be recorded anew.
CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned Flags) {
    const Handle event = to_handle(hEvent), stream = resolve_stream(hStream);
    const bool known = handles_table().living(Kind::event, event) &&
                       (stream <= 2 ? current_context() != nullptr : handles_table().living(Kind::stream, stream));
    if (!known || &client().server_of(event) == &server_of_stream(hStream)) {
        return forward_cuStreamWaitEvent(hStream, hEvent, Flags);
    }
    bool capturing = false;
    if (const CUresult failure = ask_capturing(hStream, capturing)) return failure;
    if (capturing) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    if (const CUresult failure = prepare_device_work(client().server_of(event))) return failure;
    auto call = std::make_unique<Call>(Op::wait_event);
    call->handle(Kind::event, hEvent);
    if (!call->begin(false)) return call->result();
    const CUresult result = post_host_function(hStream, {await_event, call.get(), nullptr, nullptr});
    if (result)
        call->await(false);
    else
        call.release();  // the function's, from now on
    return result;
}

// What a GPU can do with another's memory: between two servers, nothing.
CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attrib, CUdevice srcDevice, CUdevice dstDevice) {
    const Device *from = client().device(srcDevice), *to = client().device(dstDevice);
    if (!value || !from || !to || from->server == to->server) {
        return forward_cuDeviceGetP2PAttribute(value, attrib, srcDevice, dstDevice);
    }
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAtomicCapabilities(unsigned* capabilities, const CUatomicOperation* operations, unsigned count,
                                          CUdevice srcDevice, CUdevice dstDevice) {
    const Device *from = client().device(srcDevice), *to = client().device(dstDevice);
    if (!capabilities || !operations || !count || !from || !to || from->server == to->server) {
        return forward_cuDeviceGetP2PAtomicCapabilities(capabilities, operations, count, srcDevice, dstDevice);
    }
    std::fill_n(capabilities, count, 0U);
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr ptr) {
    if (!is_elsewhere(ptr, nullptr)) return forward_cuPointerSetAttribute(value, attribute, ptr);
    const ContextScope scope(*context_around(ptr));
    return forward_cuPointerSetAttribute(value, attribute, ptr);
}

}  // namespace shim
}  // namespace gpuferry
