// Whole graphs: launches, updates, and pictures of them.
#include "graphs.h"

#include <fstream>
#include <mutex>
#include <set>

#include "call.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

std::mutex lock;
std::atomic<bool> any_allocates = false;
std::set<Handle>& allocating() {  // graphs and runnable graphs
    static auto* all = new std::set<Handle>;
    return *all;
}

bool allocates(Handle graph) {
    if (!any_allocates) return false;
    const std::lock_guard held(lock);
    return allocating().contains(graph);
}

}  // namespace

void note_allocation_in(Handle graph) {
    const std::lock_guard held(lock);
    allocating().insert(graph);
    any_allocates = true;
}

void hand_on_allocations(Handle from, Handle to) {
    if (allocates(from)) note_allocation_in(to);
}

namespace shim {

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream) {
    if (!handles_table().living(Kind::graph_exec, to_handle(hGraphExec))) {
        return forward_cuGraphLaunch(hGraphExec, hStream);  // which says what is wrong
    }
    Server& server = client().server_of(to_handle(hGraphExec));
    if (const CUresult failure = prepare_graph_launch(server)) return failure;
    if (!allocates(to_handle(hGraphExec))) return forward_cuGraphLaunch(hGraphExec, hStream);
    // It is refused while memory of an earlier run is still there.
    Call call(Op::cuGraphLaunch);
    call.handle(Kind::graph_exec, hGraphExec);
    call.handle(Kind::stream, hStream);
    call.ask();
    return call.result();
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphExecUpdateResultInfo* resultInfo) {
    if (!hGraphExec || !hGraph || !resultInfo) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::update_graph);
    call.handle(Kind::graph_exec, hGraphExec);
    call.handle(Kind::graph, hGraph);
    if (call.ask()) {
        *resultInfo = {};
        resultInfo->result = static_cast<CUgraphExecUpdateResult>(call.results().take<int64_t>());
        call.take_handles(Kind::graph_node, &resultInfo->errorNode, 1);
        call.take_handles(Kind::graph_node, &resultInfo->errorFromNode, 1);
    }
    return call.result();
}

CUresult cuGraphDebugDotPrint(CUgraph hGraph, const char* path, unsigned flags) {
    if (!hGraph || !path) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::print_graph);
    call.handle(Kind::graph, hGraph);
    call.value<uint32_t>(flags);
    call.ask();
    if (call.result()) return call.result();
    std::ofstream file(path, std::ios::binary);
    file << call.results().take_text();
    return file.flush() ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

}  // namespace shim
}  // namespace gpuferry
