// A graph's nodes: adding them, telling and changing their parameters.
#include <cstring>

#include "api/graph_params.h"

using namespace softgpu;

namespace {

void add(CUgraphNode* out, CUgraph handle, const CUgraphNode* dependencies, const CUgraphEdgeData* data, size_t count,
         const std::function<Work(Graph&)>& make) {
    const GraphLock lock(graph_mutex());
    const auto graph = require<Graph>(handle);
    check_value(out, "phGraphNode is NULL");
    const auto edges = edges_from(dependencies, data, count);
    for (const auto& edge : edges) check_value(edge.node->graph == graph.get(), "a dependency is of another graph");
    *out = handle_of(*graph->add(make(*graph), edges));
}

void add(CUgraphNode* out, CUgraph handle, const CUgraphNode* dependencies, size_t count,
         const std::function<Work(Graph&)>& make) {
    add(out, handle, dependencies, nullptr, count, make);
}

// Locks, finds the node, and checks that it holds T.
template <class T, class Use>
void with(CUgraphNode handle, const Use& use) {
    const GraphLock lock(graph_mutex());
    const auto node = require<GraphNode>(handle);
    use(*node, work_as<T>(*node));
}

KernelWork keeping_attributes(const KernelWork& before, KernelWork after) {
    after.options = before.options;
    after.priority = before.priority;
    after.access_policy = before.access_policy;
    after.mem_sync_domain = before.mem_sync_domain;
    return after;
}

}  // namespace

// --- adding

extern "C" CUresult CUDAAPI cuGraphAddKernelNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                 const CUgraphNode* dependencies, size_t numDependencies,
                                                 const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return kernel_work(nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddKernelNode_v2(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                    const CUgraphNode* dependencies, size_t numDependencies,
                                                    const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return kernel_work(nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddMemcpyNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                 const CUgraphNode* dependencies, size_t numDependencies,
                                                 const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return copy_work(copyParams, ctx); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddMemsetNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                 const CUgraphNode* dependencies, size_t numDependencies,
                                                 const CUDA_MEMSET_NODE_PARAMS* memsetParams, CUcontext ctx) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return set_work(memsetParams, ctx); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddHostNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                               const CUgraphNode* dependencies, size_t numDependencies,
                                               const CUDA_HOST_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return host_work(nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddChildGraphNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                     const CUgraphNode* dependencies, size_t numDependencies,
                                                     CUgraph childGraph) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies,
            [&](Graph& graph) { return child_work(graph, childGraph, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddEmptyNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                const CUgraphNode* dependencies, size_t numDependencies) {
    return entry(__func__,
                 [&] { add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return EmptyWork{}; }); });
}

extern "C" CUresult CUDAAPI cuGraphAddEventRecordNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                      const CUgraphNode* dependencies, size_t numDependencies,
                                                      CUevent event) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies,
            [&](Graph&) { return RecordWork{require<Event>(event)}; });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddEventWaitNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                    const CUgraphNode* dependencies, size_t numDependencies,
                                                    CUevent event) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies,
            [&](Graph&) { return WaitWork{require<Event>(event)}; });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddMemAllocNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                   const CUgraphNode* dependencies, size_t numDependencies,
                                                   CUDA_MEM_ALLOC_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return alloc_work(*nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddMemFreeNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                  const CUgraphNode* dependencies, size_t numDependencies,
                                                  CUdeviceptr dptr) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph& graph) { return free_work(graph, dptr); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddBatchMemOpNode(CUgraphNode* phGraphNode, CUgraph hGraph,
                                                     const CUgraphNode* dependencies, size_t numDependencies,
                                                     const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        add(phGraphNode, hGraph, dependencies, numDependencies, [&](Graph&) { return batch_work(nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                           size_t numDependencies, CUgraphNodeParams* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        add(phGraphNode, hGraph, dependencies, numDependencies,
            [&](Graph& graph) { return work_of(graph, *nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddNode_v2(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                              const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                              CUgraphNodeParams* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        add(phGraphNode, hGraph, dependencies, dependencyData, numDependencies,
            [&](Graph& graph) { return work_of(graph, *nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphAddNode_v3(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                              const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                              CUgraphNodeParams* nodeParams) {
    return cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, dependencyData, numDependencies, nodeParams);
}

// --- telling

extern "C" CUresult CUDAAPI cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with<KernelWork>(hNode, [&](GraphNode& node, KernelWork&) { show(node, *nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with<KernelWork>(hNode, [&](GraphNode& node, KernelWork&) {
            CUDA_KERNEL_NODE_PARAMS_v2 full{};
            show(node, full);
            *nodeParams = {full.func,      full.gridDimX,  full.gridDimY,       full.gridDimZ,     full.blockDimX,
                           full.blockDimY, full.blockDimZ, full.sharedMemBytes, full.kernelParams, full.extra};
        });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with<CopyWork>(hNode, [&](GraphNode&, CopyWork& work) { *nodeParams = work.description; });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with<SetWork>(hNode, [&](GraphNode&, SetWork& work) { show(work, *nodeParams); });
    });
}

extern "C" CUresult CUDAAPI cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        check_value(nodeParams, "nodeParams is NULL");
        with<HostWork>(hNode, [&](GraphNode&, HostWork& work) { *nodeParams = {work.function, work.data}; });
    });
}

extern "C" CUresult CUDAAPI cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph* phGraph) {
    return entry(__func__, [&] {
        check_value(phGraph, "phGraph is NULL");
        with<ChildWork>(hNode, [&](GraphNode&, ChildWork& work) { *phGraph = handle_of(*work.graph); });
    });
}

extern "C" CUresult CUDAAPI cuGraphEventRecordNodeGetEvent(CUgraphNode hNode, CUevent* event_out) {
    return entry(__func__, [&] {
        check_value(event_out, "event_out is NULL");
        with<RecordWork>(hNode, [&](GraphNode&, RecordWork& work) { *event_out = handle_of(*work.event); });
    });
}

extern "C" CUresult CUDAAPI cuGraphEventWaitNodeGetEvent(CUgraphNode hNode, CUevent* event_out) {
    return entry(__func__, [&] {
        check_value(event_out, "event_out is NULL");
        with<WaitWork>(hNode, [&](GraphNode&, WaitWork& work) { *event_out = handle_of(*work.event); });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemAllocNodeGetParams(CUgraphNode hNode, CUDA_MEM_ALLOC_NODE_PARAMS* params_out) {
    return entry(__func__, [&] {
        check_value(params_out, "params_out is NULL");
        with<AllocWork>(hNode, [&](GraphNode&, AllocWork& work) { show(work, *params_out); });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemFreeNodeGetParams(CUgraphNode hNode, CUdeviceptr* dptr_out) {
    return entry(__func__, [&] {
        check_value(dptr_out, "dptr_out is NULL");
        with<FreeWork>(hNode, [&](GraphNode&, FreeWork& work) { *dptr_out = work.address; });
    });
}

extern "C" CUresult CUDAAPI cuGraphBatchMemOpNodeGetParams(CUgraphNode hNode,
                                                           CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams_out) {
    return entry(__func__, [&] {
        check_value(nodeParams_out, "nodeParams_out is NULL");
        with<BatchWork>(hNode, [&](GraphNode&, BatchWork& work) { show(work, *nodeParams_out); });
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeGetParams(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(nodeParams, "nodeParams is NULL");
        CUgraphNodeParams out{};
        out.type = type_of(node->work);
        if (std::holds_alternative<KernelWork>(node->work)) {
            CUDA_KERNEL_NODE_PARAMS_v2 kernel{};
            show(*node, kernel);
            static_assert(sizeof kernel == sizeof out.kernel);
            std::memcpy(&out.kernel, &kernel, sizeof kernel);
        } else if (const auto* copy = std::get_if<CopyWork>(&node->work)) {
            out.memcpy.copyCtx = copy->context;
            out.memcpy.copyParams = copy->description;
        } else if (const auto* set = std::get_if<SetWork>(&node->work)) {
            out.memset = {set->set.base,  set->set.pitch,  set->set.value, set->set.element,
                          set->set.width, set->set.height, set->context};
        } else if (const auto* host = std::get_if<HostWork>(&node->work)) {
            out.host.fn = host->function;
            out.host.userData = host->data;
        } else if (const auto* child = std::get_if<ChildWork>(&node->work)) {
            out.graph.graph = handle_of(*child->graph);
        } else if (const auto* wait = std::get_if<WaitWork>(&node->work)) {
            out.eventWait.event = handle_of(*wait->event);
        } else if (const auto* record = std::get_if<RecordWork>(&node->work)) {
            out.eventRecord.event = handle_of(*record->event);
        } else if (const auto* alloc = std::get_if<AllocWork>(&node->work)) {
            CUDA_MEM_ALLOC_NODE_PARAMS_v1 first{};
            show(*alloc, first);
            out.alloc = {first.poolProps, first.accessDescs, first.accessDescCount, first.bytesize, first.dptr};
        } else if (const auto* freed = std::get_if<FreeWork>(&node->work)) {
            out.free.dptr = freed->address;
        } else if (auto* batch = std::get_if<BatchWork>(&node->work)) {
            out.memOp.ctx = batch->context;
            out.memOp.count = static_cast<unsigned>(batch->operations.size());
            out.memOp.paramArray = batch->operations.data();
            out.memOp.flags = batch->flags;
        }
        *nodeParams = out;
    });
}

// --- changing

extern "C" CUresult CUDAAPI cuGraphKernelNodeSetParams_v2(CUgraphNode hNode,
                                                          const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        with<KernelWork>(
            hNode, [&](GraphNode&, KernelWork& work) { work = keeping_attributes(work, kernel_work(nodeParams)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphKernelNodeSetParams(CUgraphNode hNode,
                                                       const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return entry(__func__, [&] {
        with<KernelWork>(
            hNode, [&](GraphNode&, KernelWork& work) { work = keeping_attributes(work, kernel_work(nodeParams)); });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D* nodeParams) {
    return entry(__func__, [&] {
        with<CopyWork>(hNode, [&](GraphNode&, CopyWork& work) { work = copy_work(nodeParams, work.context); });
    });
}

extern "C" CUresult CUDAAPI cuGraphMemsetNodeSetParams(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS* nodeParams) {
    return entry(__func__, [&] {
        with<SetWork>(hNode, [&](GraphNode&, SetWork& work) { work = set_work(nodeParams, work.context); });
    });
}

extern "C" CUresult CUDAAPI cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS* nodeParams) {
    return entry(__func__,
                 [&] { with<HostWork>(hNode, [&](GraphNode&, HostWork& work) { work = host_work(nodeParams); }); });
}

extern "C" CUresult CUDAAPI cuGraphEventRecordNodeSetEvent(CUgraphNode hNode, CUevent event) {
    return entry(__func__, [&] {
        with<RecordWork>(hNode, [&](GraphNode&, RecordWork& work) { work.event = require<Event>(event); });
    });
}

extern "C" CUresult CUDAAPI cuGraphEventWaitNodeSetEvent(CUgraphNode hNode, CUevent event) {
    return entry(__func__, [&] {
        with<WaitWork>(hNode, [&](GraphNode&, WaitWork& work) { work.event = require<Event>(event); });
    });
}

extern "C" CUresult CUDAAPI cuGraphBatchMemOpNodeSetParams(CUgraphNode hNode,
                                                           const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
    return entry(__func__,
                 [&] { with<BatchWork>(hNode, [&](GraphNode&, BatchWork& work) { work = batch_work(nodeParams); }); });
}

extern "C" CUresult CUDAAPI cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        const auto node = require<GraphNode>(hNode);
        check_value(nodeParams && nodeParams->type == type_of(node->work), "the node is of another type");
        check_value(nodeParams->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC && nodeParams->type != CU_GRAPH_NODE_TYPE_MEM_FREE,
                    "memory nodes cannot be changed");
        Work work = work_of(*node->graph, *nodeParams);
        if (auto* kernel = std::get_if<KernelWork>(&work)) {
            *kernel = keeping_attributes(std::get<KernelWork>(node->work), std::move(*kernel));
        }
        node->work = std::move(work);
    });
}

extern "C" CUresult CUDAAPI cuGraphNodeSetParams_v2(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return cuGraphNodeSetParams(hNode, nodeParams);
}
