#include "peer_access.h"

#include "session.h"

namespace gpuferry::worker {
namespace {

CUmemAccessDesc right_of(const Session& session, size_t device, CUmemAccess_flags flags) {
    CUmemAccessDesc right{};
    right.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    right.location.id = session.devices[device].device;
    right.flags = flags;
    return right;
}

}  // namespace

CUresult PeerAccess::set(Session& session, size_t from, size_t to, CUmemAccess_flags flags) {
    const CUmemAccessDesc right = right_of(session, from, flags);
    for (const auto& [address, mapping] : session.mappings) {
        // A pool's memory, and what the program maps itself, have rights of their own.
        if (mapping.device != to || mapping.held || mapping.of_pool) continue;
        if (const CUresult failure = driver.cuMemSetAccess(address, mapping.size, &right, 1)) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult PeerAccess::add(Session& session, size_t from, size_t to) {
    return ++reached_by_[to][from] == 1 ? set(session, from, to, CU_MEM_ACCESS_FLAGS_PROT_READWRITE) : CUDA_SUCCESS;
}

CUresult PeerAccess::remove(Session& session, size_t from, size_t to) {
    int& contexts = reached_by_[to][from];
    if (contexts == 0) return CUDA_SUCCESS;
    return --contexts == 0 ? set(session, from, to, CU_MEM_ACCESS_FLAGS_PROT_NONE) : CUDA_SUCCESS;
}

CUresult PeerAccess::grant(Session& session, uint64_t address, uint64_t size, size_t owner) {
    const auto found = reached_by_.find(owner);
    if (found == reached_by_.end()) return CUDA_SUCCESS;
    for (const auto& [peer, contexts] : found->second) {
        if (!contexts) continue;
        const CUmemAccessDesc right = right_of(session, peer, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        if (const CUresult failure = driver.cuMemSetAccess(address, size, &right, 1)) return failure;
    }
    return CUDA_SUCCESS;
}

namespace {

// The GPU of the current context; the number of GPUs when there is none.
size_t current_device(Session& session) {
    CUdevice device = 0;
    size_t index = session.devices.size();
    if (driver.cuCtxGetDevice(&device)) return index;
    for (size_t i = 0; i < session.devices.size(); ++i) {
        if (session.devices[i].device == device) index = i;
    }
    return index;
}

}  // namespace

void serve_enable_peer(Request& in, Answer& out) {
    const auto peer = in.handle<CUcontext>(Kind::context);
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    const size_t from = current_device(session);
    if (!in.good() || device >= session.devices.size() || from == session.devices.size()) return out.refuse(in);
    out.result = driver.cuCtxEnablePeerAccess(peer, 0);
    if (!out.result) out.result = session.peers.add(session, from, device);
}

void serve_disable_peer(Request& in, Answer& out) {
    const auto peer = in.handle<CUcontext>(Kind::context);
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    const size_t from = current_device(session);
    if (!in.good() || device >= session.devices.size() || from == session.devices.size()) return out.refuse(in);
    out.result = driver.cuCtxDisablePeerAccess(peer);
    if (!out.result) out.result = session.peers.remove(session, from, device);
}

}  // namespace gpuferry::worker
