// Stream-ordered allocation: default and own pools, reuse, attributes, use across streams, freeing in order.
#include "program.h"

__global__ void fill(int* data, int n, int value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = value;
}

__global__ void add(const int* a, const int* b, int* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}

int main(int count, char** arguments) {
    start(count, arguments);
    int supported = 0;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
    REQUIRE(supported == 1);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    const int n = 1 << 16;
    cudaMemPool_t pool;
    CHECK(cudaDeviceGetDefaultMemPool(&pool, 0));
    uint64_t keep = UINT64_MAX;
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    long long sum = 0;
    for (int round = 0; round < 20; ++round) {
        int *a, *b, *c, first = 0;
        CHECK(cudaMallocAsync(&a, n * sizeof(int), stream));
        CHECK(cudaMallocAsync(&b, n * sizeof(int), stream));
        fill<<<n / 256, 256, 0, stream>>>(a, n, round);
        fill<<<n / 256, 256, 0, stream>>>(b, n, 2 * round);
        CHECK(cudaMallocAsync(&c, n * sizeof(int), stream));
        add<<<n / 256, 256, 0, stream>>>(a, b, c, n);
        CHECK(cudaFreeAsync(a, stream));
        CHECK(cudaFreeAsync(b, stream));
        CHECK(cudaMemcpyAsync(&first, c + n - 1, sizeof(int), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaFreeAsync(c, stream));
        CHECK(cudaStreamSynchronize(stream));
        sum += first;
    }
    std::printf("sum %lld\n", sum);
    uint64_t used = 1, reserved = 0, high = 0;
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &high));
    std::printf("used %llu reserved enough %d high %d\n", static_cast<unsigned long long>(used),
                reserved >= 3ull * n * sizeof(int), high >= 3ull * n * sizeof(int));
    CHECK(cudaMemPoolTrimTo(pool, 0));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    std::printf("reserved after trim %llu\n", static_cast<unsigned long long>(reserved));

    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = 0;
    cudaMemPool_t own;
    CHECK(cudaMemPoolCreate(&own, &properties));
    int* memory = nullptr;
    CHECK(cudaMallocFromPoolAsync(&memory, n * sizeof(int), own, stream));
    fill<<<n / 256, 256, 0, stream>>>(memory, n, 77);
    cudaStream_t other;
    CHECK(cudaStreamCreate(&other));
    cudaEvent_t filled;
    CHECK(cudaEventCreate(&filled));
    CHECK(cudaEventRecord(filled, stream));
    CHECK(cudaStreamWaitEvent(other, filled, 0));
    int last = 0;
    CHECK(cudaMemcpyAsync(&last, memory + n - 1, sizeof(int), cudaMemcpyDeviceToHost, other));
    CHECK(cudaFreeAsync(memory, other));
    CHECK(cudaStreamSynchronize(other));
    std::printf("own pool %d\n", last);
    CHECK(cudaMemPoolDestroy(own));
    // Memory of cudaMallocAsync may be freed by cudaFree too.
    CHECK(cudaMallocAsync(&memory, 1000, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaFree(memory));
    return 0;
}
