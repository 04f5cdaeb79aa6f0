// Graphs: captured with a fork and a join, explicit nodes of every plain kind, update, child graph, many launches.
#include "program.h"

__global__ void add(int* data, int n, int value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] += value;
}

__global__ void combine(const int* a, const int* b, int* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 100 * a[i] + b[i];
}

int host_calls = 0;
void CUDART_CB on_host(void* data) { host_calls += *static_cast<int*>(data); }

constexpr int n = 1000;

void show(const char* name, const int* memory) {
    const auto values = to_host(memory, n);
    for (const int value : values) REQUIRE(value == values[0]);
    std::printf("%s %d\n", name, values[0]);
}

int main(int count, char** arguments) {
    start(count, arguments);
    int *a = on_device<int>(n), *b = on_device<int>(n), *c = on_device<int>(n);
    cudaStream_t main_stream, side;
    CHECK(cudaStreamCreate(&main_stream));
    CHECK(cudaStreamCreate(&side));
    cudaEvent_t fork, join;
    CHECK(cudaEventCreate(&fork));
    CHECK(cudaEventCreate(&join));

    // Captured: a and b are worked on by two branches, which meet in c.
    CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemsetAsync(a, 0, n * sizeof(int), main_stream));
    CHECK(cudaEventRecord(fork, main_stream));
    CHECK(cudaStreamWaitEvent(side, fork, 0));
    CHECK(cudaMemsetAsync(b, 0, n * sizeof(int), side));
    for (int i = 0; i < 3; ++i) add<<<(n + 127) / 128, 128, 0, main_stream>>>(a, n, 2);
    for (int i = 0; i < 5; ++i) add<<<(n + 127) / 128, 128, 0, side>>>(b, n, 3);
    CHECK(cudaEventRecord(join, side));
    CHECK(cudaStreamWaitEvent(main_stream, join, 0));
    combine<<<(n + 127) / 128, 128, 0, main_stream>>>(a, b, c, n);
    cudaStreamCaptureStatus status;
    CHECK(cudaStreamIsCapturing(side, &status));
    std::printf("capturing %d\n", static_cast<int>(status));
    cudaGraph_t captured;
    CHECK(cudaStreamEndCapture(main_stream, &captured));
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(captured, nullptr, &nodes));
    std::printf("captured nodes %zu\n", nodes);
    cudaGraphExec_t runnable;
    CHECK(cudaGraphInstantiate(&runnable, captured, 0));
    for (int i = 0; i < 4; ++i) CHECK(cudaGraphLaunch(runnable, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    show("captured", c);

    // Explicit: memset, kernel, memcpy, host and event nodes in a chain with one branch.
    cudaGraph_t graph;
    CHECK(cudaGraphCreate(&graph, 0));
    cudaMemsetParams set{};
    set.dst = a;
    set.elementSize = 4;
    set.width = n;
    set.height = 1;
    set.value = 7;
    cudaGraphNode_t set_node, kernel_node, copy_node, host_node, empty_node, record_node;
    CHECK(cudaGraphAddMemsetNode(&set_node, graph, nullptr, 0, &set));
    int value = 5, length = n;
    void* parameters[] = {&a, &length, &value};
    cudaKernelNodeParams kernel{};
    kernel.func = reinterpret_cast<void*>(add);
    kernel.gridDim = dim3((n + 127) / 128);
    kernel.blockDim = dim3(128);
    kernel.kernelParams = parameters;
    CHECK(cudaGraphAddKernelNode(&kernel_node, graph, &set_node, 1, &kernel));
    CHECK(cudaGraphAddMemcpyNode1D(&copy_node, graph, &kernel_node, 1, b, a, n * sizeof(int), cudaMemcpyDeviceToDevice));
    CHECK(cudaGraphAddEmptyNode(&empty_node, graph, &set_node, 1));
    const cudaGraphNode_t both[] = {copy_node, empty_node};
    static int step = 3;
    cudaHostNodeParams host{on_host, &step};
    CHECK(cudaGraphAddHostNode(&host_node, graph, both, 2, &host));
    CHECK(cudaGraphAddEventRecordNode(&record_node, graph, &host_node, 1, join));
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    size_t edges = 0;
    CHECK(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
    std::printf("explicit nodes %zu edges %zu\n", nodes, edges);
    cudaGraphExec_t second;
    CHECK(cudaGraphInstantiate(&second, graph, 0));
    CHECK(cudaGraphLaunch(second, main_stream));
    CHECK(cudaGraphLaunch(second, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    show("explicit", b);
    std::printf("host calls %d\n", host_calls);

    // New parameters for one node of the runnable graph; then a whole update.
    value = 50;
    CHECK(cudaGraphExecKernelNodeSetParams(second, kernel_node, &kernel));
    CHECK(cudaGraphLaunch(second, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    show("after node update", b);
    value = 500;
    CHECK(cudaGraphKernelNodeSetParams(kernel_node, &kernel));
    cudaGraphExecUpdateResultInfo result{};
    CHECK(cudaGraphExecUpdate(second, graph, &result));
    std::printf("update result %d\n", static_cast<int>(result.result));
    CHECK(cudaGraphLaunch(second, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    show("after graph update", b);

    // A clone with the captured graph as its child.
    cudaGraph_t clone;
    CHECK(cudaGraphClone(&clone, graph));
    cudaGraphNode_t child, last;
    CHECK(cudaGraphNodeFindInClone(&last, record_node, clone));
    CHECK(cudaGraphAddChildGraphNode(&child, clone, &last, 1, captured));
    cudaGraphExec_t third;
    CHECK(cudaGraphInstantiate(&third, clone, 0));
    CHECK(cudaMemset(c, 0, n * sizeof(int)));
    CHECK(cudaGraphLaunch(third, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    show("child", c);

    // A graph can be launched while capturing another; an illegal call invalidates the capture.
    CHECK(cudaStreamBeginCapture(side, cudaStreamCaptureModeThreadLocal));
    add<<<1, 32, 0, side>>>(a, 32, 1);
    std::printf("synchronise while capturing: %s\n", cudaGetErrorName(cudaStreamSynchronize(side)));
    cudaGraph_t broken = nullptr;
    std::printf("end of capture: %s\n", cudaGetErrorName(cudaStreamEndCapture(side, &broken)));
    cudaGetLastError();
    CHECK(cudaGraphExecDestroy(runnable));
    CHECK(cudaGraphExecDestroy(second));
    CHECK(cudaGraphExecDestroy(third));
    CHECK(cudaGraphDestroy(captured));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaGraphDestroy(clone));
    return 0;
}
