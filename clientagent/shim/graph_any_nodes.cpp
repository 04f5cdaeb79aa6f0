// cuGraphAddNode and its kin: one call for nodes of every type, handed on to the call of the type.
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "device_memory.h"
#include "graph_nodes.h"
#include "graphs.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

CUDA_MEMSET_NODE_PARAMS plain(const CUDA_MEMSET_NODE_PARAMS_v2& given) {
    return {given.dst, given.pitch, given.value, given.elementSize, given.width, given.height};
}

CUcontext or_current(CUcontext context) {
    const Context* current = current_context();
    return context || !current ? context : from_handle<CUcontext>(current->handle);
}

CUresult add_alloc_node(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                        CUDA_MEM_ALLOC_NODE_PARAMS_v2& parameters) {
    CUDA_MEM_ALLOC_NODE_PARAMS_v1 first{};
    first.poolProps = parameters.poolProps;
    first.accessDescs = parameters.accessDescs;
    first.accessDescCount = parameters.accessDescCount;
    first.bytesize = parameters.bytesize;
    const CUresult result = shim::cuGraphAddMemAllocNode(node, graph, dependencies, count, &first);
    parameters.dptr = first.dptr;
    return result;
}

CUresult add_node(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                  CUgraphNodeParams& parameters) {
    switch (parameters.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return put_kernel_node(new_node(node, graph, dependencies, count), parameters.kernel);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return put_copy_node(new_node(node, graph, dependencies, count), &parameters.memcpy.copyParams,
                                 parameters.memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            const CUDA_MEMSET_NODE_PARAMS set = plain(parameters.memset);
            return shim::cuGraphAddMemsetNode(node, graph, dependencies, count, &set,
                                              or_current(parameters.memset.ctx));
        }
        case CU_GRAPH_NODE_TYPE_HOST:
            return put_host_node(new_node(node, graph, dependencies, count),
                                 {parameters.host.fn, parameters.host.userData});
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return shim::cuGraphAddChildGraphNode(node, graph, dependencies, count, parameters.graph.graph);
        case CU_GRAPH_NODE_TYPE_EMPTY:
            return shim::cuGraphAddEmptyNode(node, graph, dependencies, count);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return shim::cuGraphAddEventWaitNode(node, graph, dependencies, count, parameters.eventWait.event);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return shim::cuGraphAddEventRecordNode(node, graph, dependencies, count, parameters.eventRecord.event);
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            return add_alloc_node(node, graph, dependencies, count, parameters.alloc);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return shim::cuGraphAddMemFreeNode(node, graph, dependencies, count, parameters.free.dptr);
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}

// Edges with data of their own are added behind the node.
CUresult add_node(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies, const CUgraphEdgeData* edges,
                  size_t count, CUgraphNodeParams* parameters) {
    if (!node || !parameters || (count && !dependencies)) return CUDA_ERROR_INVALID_VALUE;
    if (!edges) return add_node(node, graph, dependencies, count, *parameters);
    if (const CUresult failure = add_node(node, graph, nullptr, 0, *parameters)) return failure;
    for (size_t i = 0; i < count; ++i) {
        const CUresult failure = shim::cuGraphAddDependencies_v2(graph, &dependencies[i], node, &edges[i], 1);
        if (!failure) continue;
        shim::cuGraphDestroyNode(*node);
        return failure;
    }
    return CUDA_SUCCESS;
}

CUresult set_node(CUgraphExec exec, CUgraphNode node, const CUgraphNodeParams* parameters) {
    if (!parameters) return CUDA_ERROR_INVALID_VALUE;
    const NodeTarget target = node_of_exec(exec, node);
    switch (parameters->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return put_kernel_node(target, parameters->kernel);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return put_copy_node(target, &parameters->memcpy.copyParams, parameters->memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            const CUDA_MEMSET_NODE_PARAMS set = plain(parameters->memset);
            return exec ? shim::cuGraphExecMemsetNodeSetParams(exec, node, &set, or_current(parameters->memset.ctx))
                        : shim::cuGraphMemsetNodeSetParams(node, &set);
        }
        case CU_GRAPH_NODE_TYPE_HOST:
            return put_host_node(target, {parameters->host.fn, parameters->host.userData});
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return exec ? shim::cuGraphExecChildGraphNodeSetParams(exec, node, parameters->graph.graph)
                        : CUDA_ERROR_NOT_SUPPORTED;
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return exec ? shim::cuGraphExecEventWaitNodeSetEvent(exec, node, parameters->eventWait.event)
                        : shim::cuGraphEventWaitNodeSetEvent(node, parameters->eventWait.event);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return exec ? shim::cuGraphExecEventRecordNodeSetEvent(exec, node, parameters->eventRecord.event)
                        : shim::cuGraphEventRecordNodeSetEvent(node, parameters->eventRecord.event);
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}

}  // namespace

namespace shim {

CUresult cuGraphAddNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                        size_t numDependencies, CUgraphNodeParams* nodeParams) {
    return add_node(phGraphNode, hGraph, dependencies, nullptr, numDependencies, nodeParams);
}
CUresult cuGraphAddNode_v2(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                           const CUgraphEdgeData* dependencyData, size_t numDependencies,
                           CUgraphNodeParams* nodeParams) {
    return add_node(phGraphNode, hGraph, dependencies, dependencyData, numDependencies, nodeParams);
}
CUresult cuGraphAddNode_v3(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                           const CUgraphEdgeData* dependencyData, size_t numDependencies,
                           CUgraphNodeParams* nodeParams) {
    return add_node(phGraphNode, hGraph, dependencies, dependencyData, numDependencies, nodeParams);
}
CUresult cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return set_node(nullptr, hNode, nodeParams);
}
CUresult cuGraphNodeSetParams_v2(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return set_node(nullptr, hNode, nodeParams);
}
CUresult cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return hGraphExec ? set_node(hGraphExec, hNode, nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

namespace {

constexpr unsigned most_operations = 256;

CUresult put_batch_node(const NodeTarget& target, const CUDA_BATCH_MEM_OP_NODE_PARAMS* parameters) {
    if (const CUresult failure = target.check()) return failure;
    if (!parameters || !parameters->count || parameters->count > most_operations || !parameters->paramArray) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    Call call(Op::graph_batch_node);
    target.put(call);
    call.handle(Kind::context, or_current(parameters->ctx));
    call.value<uint32_t>(parameters->flags);
    call.value<uint64_t>(parameters->count);
    call.into(parameters->paramArray, parameters->count);
    return target.ask(call);
}

}  // namespace

CUresult cuGraphAddBatchMemOpNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                  size_t numDependencies, const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return put_batch_node(new_node(phGraphNode, hGraph, dependencies, numDependencies), nodeParams);
}
CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode hNode, const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return put_batch_node(node_of_graph(hNode), nodeParams);
}
CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return hGraphExec ? put_batch_node(node_of_exec(hGraphExec, hNode), nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

// The operations stay with the node, as CUDA says.
CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode hNode, CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams_out) {
    if (!hNode || !nodeParams_out) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::show_batch_node);
    call.handle(Kind::graph_node, hNode);
    call.ask();
    if (call.result()) return call.result();
    static std::mutex lock;
    static auto& all = *new std::map<CUgraphNode, std::vector<CUstreamBatchMemOpParams>>;
    const std::lock_guard held(lock);
    auto& operations = all[hNode];
    *nodeParams_out = {};
    call.take_handles(Kind::context, &nodeParams_out->ctx, 1);
    nodeParams_out->flags = call.results().take<uint32_t>();
    operations.resize(call.results().take<uint64_t>());
    call.take(operations.data(), operations.size());
    nodeParams_out->count = static_cast<unsigned>(operations.size());
    nodeParams_out->paramArray = operations.data();
    return CUDA_SUCCESS;
}

// The access rights stay with the node, as CUDA says.
CUresult cuGraphMemAllocNodeGetParams(CUgraphNode hNode, CUDA_MEM_ALLOC_NODE_PARAMS* params_out) {
    if (!hNode || !params_out) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::show_alloc_node);
    call.handle(Kind::graph_node, hNode);
    call.ask();
    if (call.result()) return call.result();
    static std::mutex lock;
    static auto& all = *new std::map<CUgraphNode, std::vector<CUmemAccessDesc>>;
    const std::lock_guard held(lock);
    call.take(params_out, 1);
    std::vector<CUmemAccessDesc> access(call.results().take<uint64_t>());
    call.take(access.data(), access.size());
    auto& kept = all[hNode];
    if (kept.size() != access.size()) kept = access;  // what was told before stays where it is
    params_out->accessDescs = kept.empty() ? nullptr : kept.data();
    params_out->accessDescCount = kept.size();
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetParams(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    if (!hNode || !nodeParams) return CUDA_ERROR_INVALID_VALUE;
    CUgraphNodeType type{};
    if (const CUresult failure = shim::cuGraphNodeGetType(hNode, &type)) return failure;
    *nodeParams = {};
    nodeParams->type = type;
    switch (type) {
        case CU_GRAPH_NODE_TYPE_KERNEL: {
            CUDA_KERNEL_NODE_PARAMS kernel{};
            const CUresult result = shim::cuGraphKernelNodeGetParams_v2(hNode, &kernel);
            std::memcpy(&nodeParams->kernel, &kernel, sizeof kernel);
            return result;
        }
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return shim::cuGraphMemcpyNodeGetParams(hNode, &nodeParams->memcpy.copyParams);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            CUDA_MEMSET_NODE_PARAMS set{};
            const CUresult result = shim::cuGraphMemsetNodeGetParams(hNode, &set);
            nodeParams->memset = {set.dst, set.pitch, set.value, set.elementSize, set.width, set.height, nullptr};
            return result;
        }
        case CU_GRAPH_NODE_TYPE_HOST: {
            CUDA_HOST_NODE_PARAMS host{};
            const CUresult result = shim::cuGraphHostNodeGetParams(hNode, &host);
            nodeParams->host.fn = host.fn;
            nodeParams->host.userData = host.userData;
            return result;
        }
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return shim::cuGraphChildGraphNodeGetGraph(hNode, &nodeParams->graph.graph);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return shim::cuGraphEventWaitNodeGetEvent(hNode, &nodeParams->eventWait.event);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return shim::cuGraphEventRecordNodeGetEvent(hNode, &nodeParams->eventRecord.event);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return shim::cuGraphMemFreeNodeGetParams(hNode, &nodeParams->free.dptr);
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
            CUDA_MEM_ALLOC_NODE_PARAMS alloc{};
            const CUresult result = shim::cuGraphMemAllocNodeGetParams(hNode, &alloc);
            nodeParams->alloc.poolProps = alloc.poolProps;
            nodeParams->alloc.accessDescs = alloc.accessDescs;
            nodeParams->alloc.accessDescCount = alloc.accessDescCount;
            nodeParams->alloc.bytesize = alloc.bytesize;
            nodeParams->alloc.dptr = alloc.dptr;
            return result;
        }
        case CU_GRAPH_NODE_TYPE_EMPTY:
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}

// The memory of a graph is the server's own choice of address.
CUresult cuGraphAddMemAllocNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS* nodeParams) {
    const NodeTarget target = new_node(phGraphNode, hGraph, dependencies, numDependencies);
    if (const CUresult failure = target.check()) return failure;
    if (!nodeParams || (nodeParams->accessDescCount && !nodeParams->accessDescs)) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::graph_alloc_node);
    target.put(call);
    call.into(nodeParams, 1);
    call.value<uint64_t>(nodeParams->accessDescCount);
    call.into(nodeParams->accessDescs, nodeParams->accessDescCount);
    if (const CUresult failure = target.ask(call)) return failure;
    nodeParams->dptr = call.results().take<uint64_t>();
    note_allocation_in(to_handle(hGraph));
    const CUdeviceptr address = nodeParams->dptr;
    device_memory().add_foreign(address, nodeParams->bytesize, current_context(), Stretch::Origin::of_graph,
                                nodeParams->poolProps.location.id);
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
