// Copy nodes and host nodes of graphs. Host memory is named by its twin; a host function by the id that it runs under.
#include "graph_nodes.h"
#include "host_functions.h"
#include "shapes.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {

CUresult put_copy_node(const NodeTarget& target, const CUDA_MEMCPY3D* copy, CUcontext context) {
    if (const CUresult failure = target.check()) return failure;
    if (!copy) return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D localised = *copy;
    if (const CUresult failure = localise_copy(target.server(), localised)) return failure;
    Call call(Op::graph_copy_node);
    target.put(call);
    call.handle(Kind::context, context);
    call.value(localised);
    return target.ask(call);
}

CUresult put_host_node(const NodeTarget& target, const CUDA_HOST_NODE_PARAMS& parameters) {
    if (const CUresult failure = target.check()) return failure;
    if (!parameters.fn) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t id =
        add_host_function(target.server(), {parameters.fn, parameters.userData, nullptr, nullptr}, true);
    Call call(Op::graph_host_node);
    target.put(call);
    call.value(id);
    const CUresult result = target.ask(call);
    if (result) remove_host_function(id);
    return result;
}

namespace shim {

CUresult cuGraphAddMemcpyNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                              size_t numDependencies, const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
    return put_copy_node(new_node(phGraphNode, hGraph, dependencies, numDependencies), copyParams, ctx);
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D* nodeParams) {
    return put_copy_node(node_of_graph(hNode), nodeParams, nullptr);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_MEMCPY3D* copyParams,
                                        CUcontext ctx) {
    if (!hGraphExec) return CUDA_ERROR_INVALID_VALUE;
    return put_copy_node(node_of_exec(hGraphExec, hNode), copyParams, ctx);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D* nodeParams) {
    if (!hNode || !nodeParams) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::show_copy_node);
    call.handle(Kind::graph_node, hNode);
    call.ask();
    if (call.result()) return call.result();
    *nodeParams = call.results().take<CUDA_MEMCPY3D>();
    call.take_handles(Kind::array, &nodeParams->srcArray, 1);
    call.take_handles(Kind::array, &nodeParams->dstArray, 1);
    const Server& server = call.server();
    if (void* source = find_client_address(server, reinterpret_cast<uint64_t>(nodeParams->srcHost))) {
        nodeParams->srcHost = source;
    }
    if (void* destination = find_client_address(server, reinterpret_cast<uint64_t>(nodeParams->dstHost))) {
        nodeParams->dstHost = destination;
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphAddHostNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                            size_t numDependencies, const CUDA_HOST_NODE_PARAMS* nodeParams) {
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    return put_host_node(new_node(phGraphNode, hGraph, dependencies, numDependencies), *nodeParams);
}

CUresult cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS* nodeParams) {
    return nodeParams ? put_host_node(node_of_graph(hNode), *nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                      const CUDA_HOST_NODE_PARAMS* nodeParams) {
    if (!hGraphExec || !nodeParams) return CUDA_ERROR_INVALID_VALUE;
    return put_host_node(node_of_exec(hGraphExec, hNode), *nodeParams);
}

CUresult cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS* nodeParams) {
    if (!hNode || !nodeParams) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::show_host_node);
    call.handle(Kind::graph_node, hNode);
    call.ask();
    if (call.result()) return call.result();
    HostFunction function;
    if (!find_host_function(call.results().take<uint64_t>(), function)) return CUDA_ERROR_INVALID_VALUE;
    *nodeParams = {};
    nodeParams->fn = function.function;
    nodeParams->userData = function.data;
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
