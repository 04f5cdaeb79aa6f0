// cuCtxEnablePeerAccess, cuCtxDisablePeerAccess: what the calls refuse is known here; the rest is posted.
#include "peers.h"

#include <map>
#include <mutex>
#include <set>

#include "call.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

std::mutex lock;
std::map<const Context*, std::set<CUdevice>>& peers() {
    static auto* all = new std::map<const Context*, std::set<CUdevice>>;
    return *all;
}

CUresult check_peer(CUcontext handle, const Context*& context, const Context*& peer) {
    context = current_context();
    if (const CUresult failure = check_usable(context)) return failure;
    bool known = false;
    peer = find_context(handle, known);
    if (!peer || peer == context || check_usable(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    return CUDA_SUCCESS;
}

CUresult post_switch(Op op, const Context& peer) {
    Call call(op);
    call.handle(Kind::context, peer.handle);
    call.device(peer.device);
    return call.post();
}

}  // namespace

bool can_access(const Device& device, const Device& peer) {
    return device.server == peer.server && device.can_access[static_cast<size_t>(peer.local)];
}

bool reaches(const Context* context, CUdevice device) {
    if (!context || context->device == device) return true;
    const std::lock_guard held(lock);
    const auto found = peers().find(context);
    return found != peers().end() && found->second.contains(device);
}

void forget_peers(const Context* context) {
    const std::lock_guard held(lock);
    peers().erase(context);
}

namespace shim {

CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned Flags) {
    const Context *context = nullptr, *peer = nullptr;
    if (Flags) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = check_peer(peerContext, context, peer)) return failure;
    if (!can_access(*client().device(context->device), *client().device(peer->device))) {
        return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    }
    {
        const std::lock_guard held(lock);
        if (!peers()[context].insert(peer->device).second) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    }
    return post_switch(Op::enable_peer, *peer);
}

CUresult cuCtxDisablePeerAccess(CUcontext peerContext) {
    const Context *context = nullptr, *peer = nullptr;
    if (const CUresult failure = check_peer(peerContext, context, peer)) return failure;
    {
        const std::lock_guard held(lock);
        if (!peers()[context].erase(peer->device)) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    }
    return post_switch(Op::disable_peer, *peer);
}

}  // namespace shim
}  // namespace gpuferry
