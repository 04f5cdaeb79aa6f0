// Kernel nodes of graphs: parameters are packed by the kernel's layout, as for a launch.
#include <cstring>
#include <map>
#include <vector>

#include "graph_nodes.h"
#include "launch_parameters.h"
#include "shim_calls.h"

namespace gpuferry {

CUresult NodeTarget::check() const {
    if (!node && (!made || !graph)) return CUDA_ERROR_INVALID_VALUE;
    return dependency_count && !dependencies ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

void NodeTarget::put(Call& call) const {
    call.handle(Kind::graph, graph);
    call.handle(Kind::graph_node, node);
    call.handle(Kind::graph_exec, exec);
    call.value<uint64_t>(dependency_count);
    call.handles(Kind::graph_node, dependencies, dependency_count);
}

CUresult NodeTarget::ask(Call& call) const {
    call.ask();
    if (!call.result() && made) call.take_handles(Kind::graph_node, made, 1);
    return call.result();
}

namespace {

template <class Parameters>
CUDA_KERNEL_NODE_PARAMS_v3 newest(const Parameters& given) {
    CUDA_KERNEL_NODE_PARAMS_v3 parameters{};
    std::memcpy(&parameters, &given, sizeof given);  // each version adds members at the end
    return parameters;
}

template <class Parameters>
CUresult put(const NodeTarget& target, const Parameters* parameters) {
    return parameters ? put_kernel_node(target, newest(*parameters)) : CUDA_ERROR_INVALID_VALUE;
}

// Parameters that cuGraphKernelNodeGetParams has shown; CUDA keeps them with the node.
struct Shown {
    std::vector<char> bytes;
    std::vector<void*> pointers;
};

template <class Parameters>
CUresult show(CUgraphNode node, Parameters* place) {
    if (!place) return CUDA_ERROR_INVALID_VALUE;
    if (!node) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::show_kernel_node);
    call.handle(Kind::graph_node, node);
    call.ask();
    if (call.result()) return call.result();
    Decoder& results = call.results();
    const auto handle = results.take<uint64_t>();
    const auto frame = results.take<LaunchFrame>();
    const char* bytes = results.take_bytes(frame.parameter_bytes);
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(from_handle<CUfunction>(handle), failure);
    if (!function) return failure;
    static std::mutex lock;
    static auto& all = *new std::map<CUgraphNode, Shown>;
    const std::lock_guard held(lock);
    Shown& shown = all[node];
    shown.bytes.assign(bytes, bytes + frame.parameter_bytes);
    shown.pointers.clear();
    for (const Parameter& parameter : function->parameters) {
        if (parameter.offset + parameter.size > shown.bytes.size()) return CUDA_ERROR_UNKNOWN;
        shown.pointers.push_back(shown.bytes.data() + parameter.offset);
    }
    CUDA_KERNEL_NODE_PARAMS_v3 parameters{};
    parameters.func = from_handle<CUfunction>(handle);
    parameters.gridDimX = frame.grid[0], parameters.gridDimY = frame.grid[1], parameters.gridDimZ = frame.grid[2];
    parameters.blockDimX = frame.block[0], parameters.blockDimY = frame.block[1], parameters.blockDimZ = frame.block[2];
    parameters.sharedMemBytes = frame.shared_bytes;
    parameters.kernelParams = shown.pointers.data();
    std::memcpy(place, &parameters, sizeof *place);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult put_kernel_node(const NodeTarget& target, const CUDA_KERNEL_NODE_PARAMS_v3& parameters) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = target.check()) return failure;
    const auto handle = parameters.func ? parameters.func : reinterpret_cast<CUfunction>(parameters.kern);
    if (!handle) return CUDA_ERROR_INVALID_VALUE;
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    LaunchFrame frame{{parameters.gridDimX, parameters.gridDimY, parameters.gridDimZ},
                      {parameters.blockDimX, parameters.blockDimY, parameters.blockDimZ},
                      parameters.sharedMemBytes,
                      0,
                      0,
                      0};
    failure = check_launch_limits(*client().device(context->device), *function, frame);
    if (failure) return failure;
    PackedParameters packed;
    failure = pack_parameters(*function, parameters.kernelParams, parameters.extra, packed);
    if (failure) return failure;
    frame.parameter_bytes = static_cast<uint32_t>(packed.size);
    Call call(Op::graph_kernel_node);
    target.put(call);
    call.handle(Kind::function, function->handle);
    call.value(frame);
    call.bytes({packed.bytes, packed.size});
    return target.ask(call);
}

namespace shim {

CUresult cuGraphAddKernelNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                              size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return put(new_node(phGraphNode, hGraph, dependencies, numDependencies), nodeParams);
}
CUresult cuGraphAddKernelNode_v2(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                 size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return put(new_node(phGraphNode, hGraph, dependencies, numDependencies), nodeParams);
}
CUresult cuGraphKernelNodeSetParams(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return put(node_of_graph(hNode), nodeParams);
}
CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return put(node_of_graph(hNode), nodeParams);
}
CUresult cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return hGraphExec ? put(node_of_exec(hGraphExec, hNode), nodeParams) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return hGraphExec ? put(node_of_exec(hGraphExec, hNode), nodeParams) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
    return show(hNode, nodeParams);
}
CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS* nodeParams) {
    return show(hNode, nodeParams);
}

}  // namespace shim
}  // namespace gpuferry
