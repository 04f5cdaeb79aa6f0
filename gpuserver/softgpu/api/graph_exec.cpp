// Executable graphs: instantiating, launching, updating as a whole or node by node.
#include "device/graph_exec.h"

#include "api/graph_params.h"
#include "device/pool.h"

using namespace softgpu;

namespace {

void instantiate(CUgraphExec* out, CUgraph handle, uint64_t flags) {
    const GraphLock lock(graph_mutex());
    const auto graph = require<Graph>(handle);
    check_value(out, "phGraphExec is NULL");
    constexpr uint64_t known = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                               CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH |
                               CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
    check_value((flags & ~known) == 0, "unknown flags");
    if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) {
        throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "graphs cannot be launched from kernels");
    }
    *out = handle_of(*GraphExec::instantiate(*graph, flags));
}

// Locks, and finds both.
template <class Use>
void with(CUgraphExec exec_handle, CUgraphNode node_handle, const Use& use) {
    const GraphLock lock(graph_mutex());
    const auto exec = require<GraphExec>(exec_handle);
    use(*exec, *require<GraphNode>(node_handle));
}

void set_kernel(GraphExec& exec, const GraphNode& node, KernelWork after) {
    auto& work = exec_work_as<KernelWork>(exec, node);
    check_value(after.context == work.context, "the kernel is of another context");
    after.options = work.options;
    after.priority = work.priority;
    work = std::move(after);
}

void set_copy(GraphExec& exec, const GraphNode& node, CopyWork after) {
    auto& work = exec_work_as<CopyWork>(exec, node);
    check_value(after.context == work.context, "the copy is of another context");
    work = std::move(after);
}

void set_set(GraphExec& exec, const GraphNode& node, SetWork after) {
    auto& work = exec_work_as<SetWork>(exec, node);
    check_value(after.context == work.context, "the set is of another context");
    work = after;
}

CUresult update(CUgraphExec exec_handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo& info) {
    const GraphLock lock(graph_mutex());
    const auto exec = require<GraphExec>(exec_handle);
    const auto graph = require<Graph>(graph_handle);
    NodePtr failed;
    info = {};
    info.result = exec->update(*graph, &failed);
    if (failed) info.errorNode = handle_of(*failed);
    return info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

}  // namespace

extern "C" CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec* phGraphExec, CUgraph hGraph,
                                                        unsigned long long flags) {
    return entry(__func__, [&] { instantiate(phGraphExec, hGraph, flags); });
}

extern "C" CUresult CUDAAPI cuGraphInstantiate_v2(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode,
                                                  char* logBuffer, size_t bufferSize) {
    return entry(__func__, [&] {
        if (phErrorNode) *phErrorNode = nullptr;
        if (logBuffer && bufferSize) *logBuffer = '\0';
        instantiate(phGraphExec, hGraph, 0);
    });
}

extern "C" CUresult CUDAAPI cuGraphInstantiate(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode,
                                               char* logBuffer, size_t bufferSize) {
    return cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

extern "C" CUresult CUDAAPI cuGraphInstantiateWithParams(CUgraphExec* phGraphExec, CUgraph hGraph,
                                                         CUDA_GRAPH_INSTANTIATE_PARAMS* instantiateParams) {
    return entry(__func__, [&] {
        check_value(instantiateParams, "instantiateParams is NULL");
        instantiateParams->hErrNode_out = nullptr;
        instantiateParams->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
        if (instantiateParams->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) {
            require_stream(instantiateParams->hUploadStream);
        }
        instantiate(phGraphExec, hGraph, instantiateParams->flags);
        instantiateParams->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t* flags) {
    return entry(__func__, [&] {
        const auto exec = require<GraphExec>(hGraphExec);
        check_value(flags, "flags is NULL");
        *flags = exec->flags;
    });
}

extern "C" CUresult CUDAAPI cuGraphExecGetId(CUgraphExec hGraphExec, unsigned* graphId) {
    return entry(__func__, [&] {
        const auto exec = require<GraphExec>(hGraphExec);
        check_value(graphId, "graphId is NULL");
        *graphId = exec->id;
    });
}

extern "C" CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec hGraphExec) {
    return entry(__func__, [&] {
        // Launches in flight go on.
        require<GraphExec>(hGraphExec);
        withdraw<GraphExec>(hGraphExec);
    });
}

extern "C" CUresult CUDAAPI cuGraphUpload(CUgraphExec hGraph, CUstream hStream) {
    return entry(__func__, [&] {
        require<GraphExec>(hGraph);
        forbid_on_capturing(*require_stream(hStream));
    });
}

extern "C" CUresult CUDAAPI cuGraphLaunch(CUgraphExec hGraph, CUstream hStream) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        const GraphLock lock(graph_mutex());
        const auto exec = require<GraphExec>(hGraph);
        const auto stream = require_stream(hStream);
        forbid_on_capturing(*stream);
        exec->launch(stream);
    });
}

// --- updating

extern "C" CUresult CUDAAPI cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
                                                 CUgraphExecUpdateResultInfo* resultInfo) {
    return entry(__func__, [&] {
        check_value(resultInfo, "resultInfo is NULL");
        return update(hGraphExec, hGraph, *resultInfo);
    });
}

extern "C" CUresult CUDAAPI cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode* hErrorNode_out,
                                              CUgraphExecUpdateResult* updateResult_out) {
    return entry(__func__, [&] {
        CUgraphExecUpdateResultInfo info{};
        const CUresult result = update(hGraphExec, hGraph, info);
        if (hErrorNode_out) *hErrorNode_out = info.errorNode;
        if (updateResult_out) *updateResult_out = info.result;
        return result;
    });
}

extern "C" CUresult CUDAAPI cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                              const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { set_kernel(exec, node, kernel_work(nodeParams)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                           const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { set_kernel(exec, node, kernel_work(nodeParams)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                           const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { set_copy(exec, node, copy_work(copyParams, ctx)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                           const CUDA_MEMSET_NODE_PARAMS* memsetParams, CUcontext ctx) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { set_set(exec, node, set_work(memsetParams, ctx)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                         const CUDA_HOST_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { exec_work_as<HostWork>(exec, node) = host_work(nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecChildGraphNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                               CUgraph childGraph) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode,
             [&](GraphExec& exec, GraphNode& node) { exec.update_child(node, *require<Graph>(childGraph)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecEventRecordNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                               CUevent event) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) {
            exec_work_as<RecordWork>(exec, node).event = require<Event>(event);
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecEventWaitNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode, CUevent event) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) {
            exec_work_as<WaitWork>(exec, node).event = require<Event>(event);
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecBatchMemOpNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                               const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) {
            auto after = batch_work(nodeParams);
            auto& work = exec_work_as<BatchWork>(exec, node);
            check_value(after.context == work.context, "the operations are of another context");
            work = std::move(after);
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                     CUgraphNodeParams* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) {
            check_value(nodeParams->type == type_of(exec.at(node).work), "the node is of another type");
            switch (nodeParams->type) {
                case CU_GRAPH_NODE_TYPE_KERNEL:
                    return set_kernel(exec, node, kernel_work(nodeParams->kernel));
                case CU_GRAPH_NODE_TYPE_MEMCPY:
                    return set_copy(exec, node, copy_work(&nodeParams->memcpy.copyParams, nodeParams->memcpy.copyCtx));
                case CU_GRAPH_NODE_TYPE_GRAPH:
                    return exec.update_child(node, *require<Graph>(nodeParams->graph.graph));
                case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                case CU_GRAPH_NODE_TYPE_MEM_FREE:
                    throw DriverError(CUDA_ERROR_INVALID_VALUE, "memory nodes cannot be changed");
                default:
                    exec.change(node).work = work_of(*node.graph, *nodeParams);
            }
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned isEnabled) {
    return entry(__func__, [&] {
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) {
            PlanNode& planned = exec.change(node);
            const CUgraphNodeType type = type_of(planned.work);
            check_value(type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_MEMSET ||
                            type == CU_GRAPH_NODE_TYPE_MEMCPY,
                        "only kernels, sets and copies can be disabled");
            planned.enabled = isEnabled != 0;
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned* isEnabled) {
    return entry(__func__, [&] {
        check_value(isEnabled, "isEnabled is NULL");
        with(hGraphExec, hNode, [&](GraphExec& exec, GraphNode& node) { *isEnabled = exec.at(node).enabled; });
    });
}
