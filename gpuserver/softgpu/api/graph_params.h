// Between CUDA's node parameters and the work that a node holds.
#pragma once

#include <memory>
#include <vector>

#include "api/entry.h"
#include "device/capture.h"
#include "device/graph.h"
#include "device/graph_exec.h"

namespace softgpu {

// The lock that every call on graphs holds, for the body of an entry point.
using GraphLock = std::lock_guard<std::recursive_mutex>;

// The context that a node's parameters name, or the current one. Throws INVALID_CONTEXT.
std::shared_ptr<Context> node_context(CUcontext handle);

// From parameters. All throw DriverError with the code that CUDA gives for wrong ones.
KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v1* parameters);
KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v2* parameters);
KernelWork kernel_work(const CUDA_KERNEL_NODE_PARAMS_v3& parameters);
CopyWork copy_work(const CUDA_MEMCPY3D* parameters, CUcontext context);
SetWork set_work(const CUDA_MEMSET_NODE_PARAMS* parameters, CUcontext context);
HostWork host_work(const CUDA_HOST_NODE_PARAMS* parameters);
BatchWork batch_work(const CUDA_BATCH_MEM_OP_NODE_PARAMS* parameters);
// Takes the memory; its address goes to parameters.dptr.
AllocWork alloc_work(CUDA_MEM_ALLOC_NODE_PARAMS_v1& parameters);
FreeWork free_work(const Graph& graph, CUdeviceptr address);
ChildWork child_work(const Graph& parent, CUgraph child, CUgraphChildGraphNodeOwnership ownership);
// What cuGraphAddNode takes; writes what it gives back.
Work work_of(const Graph& graph, CUgraphNodeParams& parameters);

// To parameters. Pointers in them stay valid until the node is changed or destroyed.
void show(GraphNode& node, CUDA_KERNEL_NODE_PARAMS_v2& out);
void show(const SetWork& work, CUDA_MEMSET_NODE_PARAMS& out);
void show(const AllocWork& work, CUDA_MEM_ALLOC_NODE_PARAMS_v1& out);
void show(BatchWork& work, CUDA_BATCH_MEM_OP_NODE_PARAMS& out);

// The node's work of this type. Throws INVALID_VALUE when it is of another.
template <class T>
T& work_as(GraphNode& node) {
    T* work = std::get_if<T>(&node.work);
    if (!work) throw DriverError(CUDA_ERROR_INVALID_VALUE, "the node is of another type");
    return *work;
}

// The same in an executable graph, ready to be changed.
template <class T>
T& exec_work_as(GraphExec& exec, const GraphNode& node) {
    T* work = std::get_if<T>(&exec.change(node).work);
    if (!work) throw DriverError(CUDA_ERROR_INVALID_VALUE, "the node is of another type");
    return *work;
}

// `count` nodes as dependencies; `data` may be null.
std::vector<GraphNode::Edge> edges_from(const CUgraphNode* nodes, const CUgraphEdgeData* data, size_t count);

}  // namespace softgpu
