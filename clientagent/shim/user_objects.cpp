// User objects: counted by the client. A graph that is instantiated or cloned hands its holds on; when the last hold is
// gone, and with it all device work that may use the object, its destructor runs.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "call.h"
#include "graphs.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

struct UserObject {
    void* data = nullptr;
    CUhostFn destroy = nullptr;
    unsigned count = 0;
};

constexpr size_t most_log = 64u << 10;

using Holds = std::map<Handle, unsigned>;  // object → how many times

std::mutex lock;
std::map<Handle, Holds>& holders() {  // graph or runnable graph → what it holds
    static auto* all = new std::map<Handle, Holds>;
    return *all;
}

UserObject* find_object(CUuserObject object) {
    return handles_table().find<UserObject>(Kind::user_object, to_handle(object));
}

// The caller holds the lock, and calls the destructors that come back once it does not.
void release(Handle object, unsigned count, std::vector<UserObject>& gone) {
    auto* found = handles_table().find<UserObject>(Kind::user_object, object);
    if (!found) return;
    found->count -= std::min(count, found->count);
    if (found->count) return;
    gone.push_back(*found);
    handles_table().forget(object);
    delete found;
}

void destroy(const std::vector<UserObject>& gone) {
    if (gone.empty()) return;
    shim::cuCtxSynchronize();  // a graph that runs may still use them
    for (const UserObject& object : gone) object.destroy(object.data);
}

void drop_holds(Handle holder) {
    std::vector<UserObject> gone;
    {
        const std::lock_guard held(lock);
        const auto found = holders().find(holder);
        if (found == holders().end()) return;
        for (const auto& [object, count] : found->second) release(object, count, gone);
        holders().erase(found);
    }
    destroy(gone);
}

void hand_on(Handle from, Handle to) {
    hand_on_allocations(from, to);
    const std::lock_guard held(lock);
    const auto found = holders().find(from);
    if (found == holders().end()) return;
    for (const auto& [object, count] : found->second) {
        if (auto* living = handles_table().find<UserObject>(Kind::user_object, object)) living->count += count;
    }
    const Holds copy = found->second;
    holders()[to] = copy;
}

}  // namespace

namespace shim {

CUresult cuUserObjectCreate(CUuserObject* object_out, void* ptr, CUhostFn destroy, unsigned initialRefcount,
                            unsigned flags) {
    if (!object_out || !destroy || !initialRefcount || initialRefcount > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
    if (flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) return CUDA_ERROR_INVALID_VALUE;
    const Handle handle = handles_table().create(Kind::user_object, new UserObject{ptr, destroy, initialRefcount});
    *object_out = from_handle<CUuserObject>(handle);
    return handle ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned count) {
    const std::lock_guard held(lock);
    UserObject* found = find_object(object);
    if (!found || !count || count > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
    found->count += count;
    return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned count) {
    std::vector<UserObject> gone;
    {
        const std::lock_guard held(lock);
        const UserObject* found = find_object(object);
        if (!found || !count || count > found->count) return CUDA_ERROR_INVALID_VALUE;
        release(to_handle(object), count, gone);
    }
    destroy(gone);
    return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned count, unsigned flags) {
    const std::lock_guard held(lock);
    UserObject* found = find_object(object);
    if (!found || !handles_table().living(Kind::graph, to_handle(graph))) return CUDA_ERROR_INVALID_VALUE;
    if (!count || count > INT32_MAX || (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE})) return CUDA_ERROR_INVALID_VALUE;
    if (!(flags & CU_GRAPH_USER_OBJECT_MOVE)) found->count += count;
    holders()[to_handle(graph)][to_handle(object)] += count;
    return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned count) {
    std::vector<UserObject> gone;
    {
        const std::lock_guard held(lock);
        const auto holder = holders().find(to_handle(graph));
        if (!find_object(object) || holder == holders().end() || !count) return CUDA_ERROR_INVALID_VALUE;
        const auto hold = holder->second.find(to_handle(object));
        if (hold == holder->second.end() || hold->second < count) return CUDA_ERROR_INVALID_VALUE;
        hold->second -= count;
        if (!hold->second) holder->second.erase(hold);
        release(to_handle(object), count, gone);
    }
    destroy(gone);
    return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph* phGraphClone, CUgraph originalGraph) {
    const CUresult result = forward_cuGraphClone(phGraphClone, originalGraph);
    if (!result) hand_on(to_handle(originalGraph), to_handle(*phGraphClone));
    return result;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* phGraphExec, CUgraph hGraph, unsigned long long flags) {
    const CUresult result = forward_cuGraphInstantiateWithFlags(phGraphExec, hGraph, flags);
    if (!result) hand_on(to_handle(hGraph), to_handle(*phGraphExec));
    return result;
}

CUresult cuGraphInstantiate_v2(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode, char* logBuffer,
                               size_t bufferSize) {
    // Only the text comes back, not the whole buffer.
    std::vector<char> text(logBuffer ? std::min(bufferSize, most_log) : 0);
    const CUresult result = forward_cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode,
                                                          text.empty() ? nullptr : text.data(), text.size());
    if (!text.empty()) {
        text.back() = 0;
        if (text.front()) std::memcpy(logBuffer, text.data(), std::strlen(text.data()) + 1);
    }
    if (!result) hand_on(to_handle(hGraph), to_handle(*phGraphExec));
    return result;
}

CUresult cuGraphInstantiateWithParams(CUgraphExec* phGraphExec, CUgraph hGraph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS* instantiateParams) {
    if (!phGraphExec || !hGraph || !instantiateParams) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::instantiate_graph);
    call.handle(Kind::graph, hGraph);
    call.value<uint64_t>(instantiateParams->flags);
    if (instantiateParams->hUploadStream) {
        call.handle(Kind::stream, instantiateParams->hUploadStream);
    } else {
        call.value<uint64_t>(0);
    }
    if (call.ask()) {
        call.take_handles(Kind::graph_exec, phGraphExec, 1);
        call.take_handles(Kind::graph_node, &instantiateParams->hErrNode_out, 1);
        instantiateParams->result_out = static_cast<CUgraphInstantiateResult>(call.results().take<int64_t>());
    }
    if (!call.result()) hand_on(to_handle(hGraph), to_handle(*phGraphExec));
    return call.result();
}

CUresult cuGraphDestroy(CUgraph hGraph) {
    if (!hGraph) return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = forward_cuGraphDestroy(hGraph);
    if (!result) drop_holds(to_handle(hGraph));
    return result;
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec) {
    if (!hGraphExec) return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = forward_cuGraphExecDestroy(hGraphExec);
    if (!result) drop_holds(to_handle(hGraphExec));
    return result;
}

}  // namespace shim
}  // namespace gpuferry
