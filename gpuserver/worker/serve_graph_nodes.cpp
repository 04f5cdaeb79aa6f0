// Nodes of graphs whose parameters are more than plain values: kernels, copies, host functions.
#include "launch_frame.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

// What a request is about: a new node of `graph`, a node of a graph, or one of a runnable graph.
struct Target {
    CUgraph graph = nullptr;
    CUgraphNode node = nullptr;
    CUgraphExec exec = nullptr;
    uint64_t dependency_count = 0;
    const CUgraphNode* dependencies = nullptr;
    CUgraphNode made = nullptr;

    explicit Target(Request& in)
        : graph(in.handle<CUgraph>(Kind::graph)),
          node(in.handle<CUgraphNode>(Kind::graph_node)),
          exec(in.handle<CUgraphExec>(Kind::graph_exec)),
          dependency_count(in.value<uint64_t>()),
          dependencies(in.handles<CUgraphNode>(Kind::graph_node, dependency_count)) {
        if (!node && !graph) in.fail(CUDA_ERROR_INVALID_VALUE);
    }
    void answer(Request& in, Answer& out) const {
        if (!out.result && !node) out.put_handle(in, Kind::graph_node, made, in.last(Kind::graph));
    }
};

bool belongs_to_library(Request& in) {
    const Object* function = in.session.objects.find(Kind::function, in.last(Kind::function));
    return function && in.session.objects.find(Kind::library, function->owner);
}

// The packed parameters of a kernel node, which the driver tells as pointers to each.
CUresult pack(const CUDA_KERNEL_NODE_PARAMS_v2& node, std::string& packed) {
    if (node.extra) {
        for (int i = 0; node.extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
            if (node.extra[i] != CU_LAUNCH_PARAM_BUFFER_POINTER) continue;
            const auto* bytes = static_cast<const char*>(node.extra[i + 1]);
            for (int j = 0; node.extra[j] != CU_LAUNCH_PARAM_END; j += 2) {
                if (node.extra[j] != CU_LAUNCH_PARAM_BUFFER_SIZE) continue;
                packed.assign(bytes, *static_cast<const size_t*>(node.extra[j + 1]));
            }
        }
        return CUDA_SUCCESS;
    }
    for (size_t index = 0;; ++index) {
        size_t offset = 0, size = 0;
        const CUresult result = node.func ? driver.cuFuncGetParamInfo(node.func, index, &offset, &size)
                                          : driver.cuKernelGetParamInfo(node.kern, index, &offset, &size);
        if (result) return CUDA_SUCCESS;  // there are no more
        if (offset + size > most_parameter_bytes || !node.kernelParams) return CUDA_ERROR_INVALID_VALUE;
        packed.resize(std::max(packed.size(), offset + size));
        std::memcpy(packed.data() + offset, node.kernelParams[index], size);
    }
}

}  // namespace

void serve_graph_kernel_node(Request& in, Answer& out) {
    Target target(in);
    const auto function = in.handle<CUfunction>(Kind::function);
    const auto frame = in.value<LaunchFrame>();
    if (frame.parameter_bytes > most_parameter_bytes) in.fields().spoil();
    size_t size = frame.parameter_bytes;
    const char* sent = in.fields().take_bytes(size);
    if (!in.good() || !function) return out.refuse(in);
    char* parameters = in.room<char>(size);
    std::memcpy(parameters, sent, size);
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, parameters, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    CUDA_KERNEL_NODE_PARAMS_v2 node{};
    if (belongs_to_library(in)) {
        node.kern = reinterpret_cast<CUkernel>(function);
    } else {
        node.func = function;
    }
    node.gridDimX = frame.grid[0], node.gridDimY = frame.grid[1], node.gridDimZ = frame.grid[2];
    node.blockDimX = frame.block[0], node.blockDimY = frame.block[1], node.blockDimZ = frame.block[2];
    node.sharedMemBytes = frame.shared_bytes;
    node.extra = extra;
    if (target.exec) {
        out.result = driver.cuGraphExecKernelNodeSetParams_v2(target.exec, target.node, &node);
    } else if (target.node) {
        out.result = driver.cuGraphKernelNodeSetParams_v2(target.node, &node);
    } else {
        out.result = driver.cuGraphAddKernelNode_v2(&target.made, target.graph, target.dependencies,
                                                    target.dependency_count, &node);
    }
    target.answer(in, out);
}

void serve_show_kernel_node(Request& in, Answer& out) {
    const auto node = in.handle<CUgraphNode>(Kind::graph_node);
    if (!in.good() || !node) return out.refuse(in);
    CUDA_KERNEL_NODE_PARAMS_v2 found{};
    out.result = driver.cuGraphKernelNodeGetParams_v2(node, &found);
    std::string packed;
    if (!out.result) out.result = pack(found, packed);
    if (out.result) return;
    // A library's kernel may be told as the function that it is in this context.
    Objects& objects = in.session.objects;
    const Handle by_kernel = objects.known(Kind::function, found.kern);
    const Handle by_function = objects.known(Kind::function, found.func);
    Encoder answer(out.payload);
    answer.put<uint64_t>(by_kernel ? by_kernel : by_function);
    answer.put(LaunchFrame{{found.gridDimX, found.gridDimY, found.gridDimZ},
                           {found.blockDimX, found.blockDimY, found.blockDimZ},
                           found.sharedMemBytes,
                           static_cast<uint32_t>(packed.size()),
                           0,
                           0});
    answer.put_bytes(packed.data(), packed.size());
}

void serve_graph_copy_node(Request& in, Answer& out) {
    Target target(in);
    auto context = in.handle<CUcontext>(Kind::context);
    auto copy = in.value<CUDA_MEMCPY3D>();
    if (!context) context = in.session.current();
    if (!in.good() || !localise(in, copy)) return out.refuse(in);
    if (target.exec) {
        out.result = driver.cuGraphExecMemcpyNodeSetParams(target.exec, target.node, &copy, context);
    } else if (target.node) {
        out.result = driver.cuGraphMemcpyNodeSetParams(target.node, &copy);
    } else {
        out.result = driver.cuGraphAddMemcpyNode(&target.made, target.graph, target.dependencies,
                                                 target.dependency_count, &copy, context);
    }
    target.answer(in, out);
}

void serve_show_copy_node(Request& in, Answer& out) {
    const auto node = in.handle<CUgraphNode>(Kind::graph_node);
    if (!in.good() || !node) return out.refuse(in);
    CUDA_MEMCPY3D copy{};
    out.result = driver.cuGraphMemcpyNodeGetParams(node, &copy);
    if (out.result) return;
    const CUarray source = copy.srcArray, destination = copy.dstArray;
    copy.srcArray = copy.dstArray = nullptr;  // the real ones stay here
    Encoder(out.payload).put(copy);
    const bool from_array = copy.srcMemoryType == CU_MEMORYTYPE_ARRAY,
               to_array = copy.dstMemoryType == CU_MEMORYTYPE_ARRAY;
    out.put_handle(in, Kind::array, from_array ? source : nullptr, in.context());
    out.put_handle(in, Kind::array, to_array ? destination : nullptr, in.context());
}

void serve_graph_host_node(Request& in, Answer& out) {
    Target target(in);
    const auto id = in.value<uint64_t>();
    CUDA_HOST_NODE_PARAMS node{};
    if (!in.good() || !in.session.host_functions.in_graph(id, node)) return out.refuse(in);
    if (target.exec) {
        out.result = driver.cuGraphExecHostNodeSetParams(target.exec, target.node, &node);
    } else if (target.node) {
        out.result = driver.cuGraphHostNodeSetParams(target.node, &node);
    } else {
        out.result =
            driver.cuGraphAddHostNode(&target.made, target.graph, target.dependencies, target.dependency_count, &node);
    }
    target.answer(in, out);
}

void serve_show_host_node(Request& in, Answer& out) {
    const auto node = in.handle<CUgraphNode>(Kind::graph_node);
    if (!in.good() || !node) return out.refuse(in);
    CUDA_HOST_NODE_PARAMS found{};
    out.result = driver.cuGraphHostNodeGetParams(node, &found);
    if (!out.result) Encoder(out.payload).put<uint64_t>(in.session.host_functions.id_of(found));
}

void serve_graph_batch_node(Request& in, Answer& out) {
    Target target(in);
    CUDA_BATCH_MEM_OP_NODE_PARAMS node{};
    node.ctx = in.handle<CUcontext>(Kind::context);
    node.flags = in.value<uint32_t>();
    const auto count = in.value<uint64_t>();
    node.paramArray = in.into<CUstreamBatchMemOpParams>(count);
    node.count = static_cast<unsigned>(count);
    if (!in.good() || !node.paramArray) return out.refuse(in);
    if (target.exec) {
        out.result = driver.cuGraphExecBatchMemOpNodeSetParams(target.exec, target.node, &node);
    } else if (target.node) {
        out.result = driver.cuGraphBatchMemOpNodeSetParams(target.node, &node);
    } else {
        out.result = driver.cuGraphAddBatchMemOpNode(&target.made, target.graph, target.dependencies,
                                                     target.dependency_count, &node);
    }
    target.answer(in, out);
}

// The answer tells where the memory will be.
void serve_graph_alloc_node(Request& in, Answer& out) {
    Target target(in);
    auto* node = in.into<CUDA_MEM_ALLOC_NODE_PARAMS_v1>(1);
    const auto count = in.value<uint64_t>();
    const auto* access = in.into<CUmemAccessDesc>(count);
    if (!in.good() || !node || !target.graph || target.node || (count && !access)) return out.refuse(in);
    node->accessDescs = count ? access : nullptr;
    node->accessDescCount = count;
    out.result =
        driver.cuGraphAddMemAllocNode(&target.made, target.graph, target.dependencies, target.dependency_count, node);
    target.answer(in, out);
    if (!out.result) Encoder(out.payload).put<uint64_t>(node->dptr);
}

void serve_show_alloc_node(Request& in, Answer& out) {
    const auto node = in.handle<CUgraphNode>(Kind::graph_node);
    if (!in.good() || !node) return out.refuse(in);
    CUDA_MEM_ALLOC_NODE_PARAMS_v1 found{};
    out.result = driver.cuGraphMemAllocNodeGetParams(node, &found);
    if (out.result) return;
    Encoder answer(out.payload);
    answer.put_bytes(&found, sizeof found);
    answer.put<uint64_t>(found.accessDescCount);
    answer.put_bytes(found.accessDescs, found.accessDescCount * sizeof *found.accessDescs);
}

void serve_show_batch_node(Request& in, Answer& out) {
    const auto node = in.handle<CUgraphNode>(Kind::graph_node);
    if (!in.good() || !node) return out.refuse(in);
    CUDA_BATCH_MEM_OP_NODE_PARAMS found{};
    out.result = driver.cuGraphBatchMemOpNodeGetParams(node, &found);
    if (out.result) return;
    out.put_handle(in, Kind::context, found.ctx, 0);
    Encoder answer(out.payload);
    answer.put<uint32_t>(found.flags);
    answer.put<uint64_t>(found.count);
    answer.put_bytes(found.paramArray, found.count * sizeof *found.paramArray);
}

}  // namespace gpuferry::worker
