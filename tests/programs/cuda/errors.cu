// Errors: what a call refuses at once, what a kernel does wrong and every later call reports, what stays usable.
// The second argument names the case; a sticky error ends the usefulness of the process, as on hardware.
#include <cassert>

#include "program.h"

__global__ void nothing() {}
__global__ void write_to(int* where, int n) {
    for (int i = 0; i < n; ++i) where[i] = i;
}
__global__ void misaligned(char* where) { *reinterpret_cast<int*>(where + 1) = 5; }
__global__ void trap() { asm volatile("trap;"); }
__global__ void check(int value) { assert(value == 3); }
__global__ void spin(volatile int* flag) {
    while (!*flag) {
    }
}

void show(const char* what, cudaError_t error) { std::printf("%s: %s\n", what, cudaGetErrorName(error)); }

void immediate() {
    void* memory = nullptr;
    nothing<<<1, 2048>>>();
    show("block of 2048", cudaGetLastError());
    show("then", cudaGetLastError());
    nothing<<<dim3(1, 70000), 1>>>();
    show("grid of 1 x 70000", cudaGetLastError());
    nothing<<<0, 32>>>();
    show("empty grid", cudaGetLastError());
    nothing<<<1, dim3(1, 1, 128)>>>();
    show("block of 1 x 1 x 128", cudaGetLastError());
    nothing<<<1, 32, 1 << 20>>>();
    show("1 MiB of shared memory", cudaGetLastError());
    show("malloc of 1 EiB", cudaMalloc(&memory, 1ull << 60));
    std::printf("pointer still null %d\n", memory == nullptr);
    show("last error", cudaGetLastError());
    show("free of a stack address", cudaFree(&memory));
    cudaGetLastError();
    show("free of null", cudaFree(nullptr));
    show("copy of a bad kind", cudaMemcpy(&memory, &memory, 8, static_cast<cudaMemcpyKind>(9)));
    cudaGetLastError();
    int* device = nullptr;
    CHECK(cudaMalloc(&device, 1024));
    show("free", cudaFree(device));
    show("free again", cudaFree(device));
    cudaGetLastError();
    show("null event", cudaEventRecord(nullptr));
    cudaGetLastError();
    cudaEvent_t a, b;
    CHECK(cudaEventCreate(&a));
    CHECK(cudaEventCreate(&b));
    float ms = 0;
    show("time of events never recorded", cudaEventElapsedTime(&ms, a, b));
    cudaGetLastError();
    show("peek", cudaPeekAtLastError());
    nothing<<<1, 1>>>();
    show("a good launch", cudaDeviceSynchronize());
}

void out_of_memory() {
    size_t free_bytes = 0, total = 0;
    CHECK(cudaMemGetInfo(&free_bytes, &total));
    std::vector<void*> blocks;
    void* memory = nullptr;
    cudaError_t error = cudaSuccess;
    while ((error = cudaMalloc(&memory, 32 << 20)) == cudaSuccess) blocks.push_back(memory);
    show("in the end", error);
    cudaGetLastError();
    REQUIRE(blocks.size() <= total / (32 << 20) && blocks.size() + 8 >= free_bytes / (32 << 20));
    int* device = static_cast<int*>(blocks.back());
    write_to<<<1, 1>>>(device, 10);
    show("work goes on", cudaDeviceSynchronize());
    for (void* block : blocks) CHECK(cudaFree(block));
    size_t after = 0;
    CHECK(cudaMemGetInfo(&after, &total));
    std::printf("all given back %d\n", after >= free_bytes);
}

void sticky(const char* kind) {
    int* device = on_device<int>(16);
    if (!std::strcmp(kind, "illegal")) write_to<<<1, 1>>>(reinterpret_cast<int*>(0x10), 4);
    if (!std::strcmp(kind, "beyond")) write_to<<<1, 1>>>(device, 1 << 28);
    if (!std::strcmp(kind, "misaligned")) misaligned<<<1, 1>>>(reinterpret_cast<char*>(device));
    if (!std::strcmp(kind, "trap")) trap<<<1, 1>>>();
    if (!std::strcmp(kind, "assert")) check<<<2, 2>>>(4);
    show("launch", cudaGetLastError());
    show("synchronise", cudaDeviceSynchronize());
    show("malloc afterwards", cudaMalloc(&device, 16));
    nothing<<<1, 1>>>();
    show("launch afterwards", cudaGetLastError());
    show("synchronise afterwards", cudaDeviceSynchronize());
    show("peek", cudaPeekAtLastError());
}

int main(int count, char** arguments) {
    start(count, arguments);
    const char* what = count > 2 ? arguments[2] : "immediate";
    if (!std::strcmp(what, "immediate")) {
        immediate();
    } else if (!std::strcmp(what, "out_of_memory")) {
        out_of_memory();
    } else {
        sticky(what);
    }
    return 0;
}
