// Between CUDA's node parameters and the work that a node holds.
#include "api/graph_params.h"

#include <algorithm>
#include <cstring>

#include "device/pool.h"

namespace softgpu {
namespace {

// A kernel handle means its function in a context: makes that one current for a while.
class CurrentFor {
  public:
    explicit CurrentFor(std::shared_ptr<Context> context) { Context::push(std::move(context)); }
    ~CurrentFor() { Context::pop(); }
    CurrentFor(const CurrentFor&) = delete;
    CurrentFor& operator=(const CurrentFor&) = delete;
};

template <class Parameters>
KernelWork make_kernel(const Parameters& p, CUfunction handle) {
    KernelWork work;
    work.handle = handle;
    work.function = resolve_function(handle);
    const auto context = work.function->context.lock();
    if (!context || !context->alive()) throw DriverError(CUDA_ERROR_INVALID_HANDLE, "the kernel's context is gone");
    work.context = handle_of(*context);
    work.grid = {p.gridDimX, p.gridDimY, p.gridDimZ};
    work.block = {p.blockDimX, p.blockDimY, p.blockDimZ};
    work.shared_bytes = p.sharedMemBytes;
    if (work.function->info().required_cluster.volume()) work.options.cluster = work.function->info().required_cluster;
    check_launch(context->device(), *work.function, work.grid, work.block, work.shared_bytes, work.options);
    work.parameters = gather_parameters(work.function->info(), p.kernelParams, p.extra);
    return work;
}

template <class Parameters>
KernelWork make_kernel(const Parameters& p) {
    if (p.func) return make_kernel(p, p.func);
    check_value(p.kern != nullptr, "neither func nor kern is set");
    const CurrentFor scope(node_context(p.ctx));
    return make_kernel(p, reinterpret_cast<CUfunction>(p.kern));
}

template <class Parameters>
CUDA_MEM_ALLOC_NODE_PARAMS_v1 as_first_version(const Parameters& p) {
    return {p.poolProps, p.accessDescs, p.accessDescCount, p.bytesize, p.dptr};
}

}  // namespace

std::shared_ptr<Context> node_context(CUcontext handle) {
    auto context = handle ? require<Context>(handle) : Context::current();
    if (!context || !context->alive()) throw DriverError(CUDA_ERROR_INVALID_CONTEXT, "no context for the node");
    return context;
}

KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    check_value(p, "nodeParams is NULL");
    return make_kernel(*p, p->func);
}

KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v2* p) {
    check_value(p, "nodeParams is NULL");
    return make_kernel(*p);
}

KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v3& p) {
    return make_kernel(p);
}

CopyWork copy_work(const CUDA_MEMCPY3D* p, CUcontext context) {
    check_value(p, "copyParams is NULL");
    return CopyWork::of(*p, handle_of(*node_context(context)));
}

SetWork set_work(const CUDA_MEMSET_NODE_PARAMS* p, CUcontext context) {
    check_value(p, "memsetParams is NULL");
    check_value(p->elementSize == 1 || p->elementSize == 2 || p->elementSize == 4, "elementSize is not 1, 2 or 4");
    return {plan_set(p->dst, p->pitch, p->value, p->elementSize, p->width, p->height),
            handle_of(*node_context(context))};
}

HostWork host_work(const CUDA_HOST_NODE_PARAMS* p) {
    check_value(p && p->fn, "fn is NULL");
    return {p->fn, p->userData};
}

BatchWork batch_work(const CUDA_BATCH_MEM_OP_NODE_PARAMS* p) {
    check_value(p && p->paramArray && p->count && p->count <= 256 && p->flags == 0, "no operations, or more than 256");
    BatchWork work{handle_of(*node_context(p->ctx)), {p->paramArray, p->paramArray + p->count}, p->flags};
    check_batch(work.operations);
    return work;
}

AllocWork alloc_work(CUDA_MEM_ALLOC_NODE_PARAMS_v1& p) {
    check_value(p.bytesize != 0, "no bytes are wanted");
    check_value(p.poolProps.allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
                    p.poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
                    p.poolProps.handleTypes == CU_MEM_HANDLE_TYPE_NONE,
                "only pinned memory of a device that is not exported");
    check_value(p.accessDescCount == 0 || p.accessDescs, "accessDescs is NULL");
    AllocWork work;
    uint64_t devices = 0;
    for (size_t i = 0; i < p.accessDescCount; ++i) {
        check_value(p.accessDescs[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE, "access is given to devices only");
        devices |= uint64_t{1} << require_device(p.accessDescs[i].location.id).ordinal();
        work.access.push_back(p.accessDescs[i]);
    }
    work.memory = std::make_shared<GraphMemory>(require_device(p.poolProps.location.id), p.bytesize, devices);
    p.dptr = work.memory->piece->begin;
    work.parameters.poolProps = p.poolProps;
    work.parameters.bytesize = p.bytesize;
    work.parameters.dptr = p.dptr;
    return work;
}

FreeWork free_work(const Graph& graph, CUdeviceptr address) {
    bool made = false, freed = false;
    for (const auto& node : graph.nodes) {
        const auto* alloc = std::get_if<AllocWork>(&node->work);
        const auto* other = std::get_if<FreeWork>(&node->work);
        made = made || (alloc && alloc->memory->piece->begin == address);
        freed = freed || (other && other->address == address);
    }
    const auto allocation = memory_map().find(address);
    const bool elsewhere = allocation && allocation->begin == address && allocation->pool &&
                           allocation->pool->role() == MemoryPool::Role::graph;
    check_value((made || elsewhere) && !freed, "no memory of an allocation node, or freed in this graph already");
    return {address};
}

ChildWork child_work(const Graph& parent, CUgraph child, CUgraphChildGraphNodeOwnership ownership) {
    const auto graph = require<Graph>(child);
    check_value(graph.get() != &parent, "a graph cannot be its own child");
    if (ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
        check_value(!graph->embedded, "the graph is a child already");
        graph->embedded = true;
        return {graph};
    }
    if (graph->has_memory_nodes()) {
        throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "a graph with memory nodes cannot be cloned into another");
    }
    auto copy = graph->clone();
    copy->embedded = true;
    return {copy};
}

Work work_of(const Graph& graph, CUgraphNodeParams& p) {
    switch (p.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return kernel_work(p.kernel);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return copy_work(&p.memcpy.copyParams, p.memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
            const CUDA_MEMSET_NODE_PARAMS set{p.memset.dst,         p.memset.pitch, p.memset.value,
                                              p.memset.elementSize, p.memset.width, p.memset.height};
            return set_work(&set, p.memset.ctx);
        }
        case CU_GRAPH_NODE_TYPE_HOST: {
            const CUDA_HOST_NODE_PARAMS host{p.host.fn, p.host.userData};
            return host_work(&host);
        }
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return child_work(graph, p.graph.graph, p.graph.ownership);
        case CU_GRAPH_NODE_TYPE_EMPTY:
            return EmptyWork{};
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return WaitWork{require<Event>(p.eventWait.event)};
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return RecordWork{require<Event>(p.eventRecord.event)};
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
            auto first = as_first_version(p.alloc);
            auto work = alloc_work(first);
            p.alloc.dptr = first.dptr;
            return work;
        }
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return free_work(graph, p.free.dptr);
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP: {
            const CUDA_BATCH_MEM_OP_NODE_PARAMS batch{p.memOp.ctx, p.memOp.count, p.memOp.paramArray, p.memOp.flags};
            return batch_work(&batch);
        }
        default:
            throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "nodes of this type are not supported");
    }
}

void show(GraphNode& node, CUDA_KERNEL_NODE_PARAMS_v2& out) {
    auto& work = work_as<KernelWork>(node);
    node.shown_parameters.clear();
    for (const ParameterInfo& parameter : work.function->info().parameters) {
        node.shown_parameters.push_back(work.parameters.data() + parameter.offset);
    }
    out = {};
    // A kernel handle that was given as a function is told back as such.
    out.func = work.handle;
    out.gridDimX = work.grid.x;
    out.gridDimY = work.grid.y;
    out.gridDimZ = work.grid.z;
    out.blockDimX = work.block.x;
    out.blockDimY = work.block.y;
    out.blockDimZ = work.block.z;
    out.sharedMemBytes = work.shared_bytes;
    out.kernelParams = node.shown_parameters.empty() ? nullptr : node.shown_parameters.data();
    out.ctx = work.context;
}

void show(const SetWork& work, CUDA_MEMSET_NODE_PARAMS& out) {
    out = {work.set.base, work.set.pitch, work.set.value, work.set.element, work.set.width, work.set.height};
}

void show(const AllocWork& work, CUDA_MEM_ALLOC_NODE_PARAMS_v1& out) {
    out = {};
    out.poolProps = work.parameters.poolProps;
    out.accessDescs = work.access.empty() ? nullptr : work.access.data();
    out.accessDescCount = work.access.size();
    out.bytesize = work.parameters.bytesize;
    out.dptr = work.parameters.dptr;
}

void show(BatchWork& work, CUDA_BATCH_MEM_OP_NODE_PARAMS& out) {
    out = {work.context, static_cast<unsigned>(work.operations.size()), work.operations.data(), work.flags};
}

std::vector<GraphNode::Edge> edges_from(const CUgraphNode* nodes, const CUgraphEdgeData* data, size_t count) {
    check_value(count == 0 || nodes, "dependencies is NULL");
    std::vector<GraphNode::Edge> edges;
    for (size_t i = 0; i < count; ++i)
        edges.push_back({require<GraphNode>(nodes[i]), data ? data[i] : CUgraphEdgeData{}});
    return edges;
}

}  // namespace softgpu
