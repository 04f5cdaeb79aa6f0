// Several GPUs without peer access: each runs kernels of one library with variables of its own, and all of them pass
// memory to one another, in order, by every kind of copy. What it prints does not tell where the GPUs are.
#include "program.h"

#include <thread>

__constant__ int factor;
__device__ int offset;
__managed__ int counter = 100;

__global__ void scale(int* data, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = data[i] * factor + offset;
}
__global__ void add_from(int* data, const int* other, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] += other[i];
}
__global__ void wait_and_fill(int* data, int n, int value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int turn = 0; turn < 200; ++turn) __threadfence();
    if (i < n) data[i] = value + i;
}
__global__ void count_up(int by) { counter += by; }

constexpr int n = 50'000;
constexpr int blocks = (n + 255) / 256;

std::vector<int> numbers(int start) {
    std::vector<int> values(n);
    for (int i = 0; i < n; ++i) values[i] = start + i % 1000;
    return values;
}

long long sum(const std::vector<int>& values) {
    long long all = 0;
    for (const int value : values) all += value;
    return all;
}

int main(int count, char** arguments) {
    start(count, arguments);
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    std::printf("devices %d\n", devices);
    REQUIRE(devices >= 2);
    const int last = devices - 1;
    std::vector<int*> data(devices);
    std::vector<cudaStream_t> streams(devices);
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        CHECK(cudaStreamCreateWithFlags(&streams[d], cudaStreamNonBlocking));
        const int times = d + 2, plus = 10 * d;
        CHECK(cudaMemcpyToSymbol(factor, &times, sizeof times));
        CHECK(cudaMemcpyToSymbol(offset, &plus, sizeof plus));
        data[d] = to_device(numbers(d));
        scale<<<blocks, 256>>>(data[d], n);
        CHECK(cudaGetLastError());
    }
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        int plus = -1;
        CHECK(cudaMemcpyFromSymbol(&plus, offset, sizeof plus));
        cudaPointerAttributes attributes{};
        CHECK(cudaPointerGetAttributes(&attributes, data[d]));
        std::printf("gpu %d: sum %lld, offset %d, owner %d\n", d, sum(to_host(data[d], n)), plus, attributes.device);
        for (int e = 0; e < d; ++e) REQUIRE(data[d] != data[e]);
    }

    // Copies between GPUs, of every kind, with either side current or neither.
    for (int current = 0; current < devices; ++current) {
        CHECK(cudaSetDevice(current));
        for (int from = 0; from < devices; ++from) {
            for (int to = 0; to < devices; ++to) {
                if (from == to) continue;
                CHECK(cudaSetDevice(to));
                int* copy = on_device<int>(n);
                CHECK(cudaMemset(copy, 0, n * sizeof(int)));
                CHECK(cudaDeviceSynchronize());
                CHECK(cudaSetDevice(current));
                CHECK(cudaMemcpyPeer(copy, to, data[from], from, n * sizeof(int)));
                REQUIRE(to_host(copy, n) == to_host(data[from], n));
                CHECK(cudaMemset(copy, 1, n * sizeof(int)));
                CHECK(cudaMemcpy(copy, data[from], n * sizeof(int), cudaMemcpyDefault));
                REQUIRE(to_host(copy, n) == to_host(data[from], n));
                CHECK(cudaMemsetAsync(copy, 2, n * sizeof(int), streams[current]));
                CHECK(cudaMemcpyAsync(copy, data[from], n * sizeof(int), cudaMemcpyDeviceToDevice, streams[current]));
                CHECK(cudaStreamSynchronize(streams[current]));
                REQUIRE(to_host(copy, n) == to_host(data[from], n));
                // A rectangle of 100 columns of a picture of 200 by 250.
                CHECK(cudaMemset(copy, 0, n * sizeof(int)));
                CHECK(cudaDeviceSynchronize());
                CHECK(cudaMemcpy2D(copy + 50, 200 * sizeof(int), data[from] + 100, 200 * sizeof(int), 100 * sizeof(int),
                                   250, cudaMemcpyDeviceToDevice));
                const std::vector<int> part = to_host(copy, n), whole = to_host(data[from], n);
                for (int i = 0; i < n; ++i) {
                    const int column = i % 200;
                    REQUIRE(part[i] == (column >= 50 && column < 150 ? whole[i + 50] : 0));
                }
                CHECK(cudaFree(copy));
            }
        }
    }
    std::printf("copies are right\n");

    // A ring: each GPU adds what the one before it has made, in streams that wait for each other's events.
    std::vector<cudaEvent_t> done(devices);
    std::vector<int*> incoming(devices);
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        CHECK(cudaEventCreateWithFlags(&done[d], cudaEventDisableTiming));
        incoming[d] = on_device<int>(n);
    }
    CHECK(cudaSetDevice(0));
    wait_and_fill<<<blocks, 256, 0, streams[0]>>>(data[0], n, 5);
    CHECK(cudaEventRecord(done[0], streams[0]));
    for (int turn = 0; turn < 3 * devices; ++turn) {
        const int from = turn % devices, to = (turn + 1) % devices;
        CHECK(cudaSetDevice(to));
        CHECK(cudaStreamWaitEvent(streams[to], done[from], 0));
        CHECK(cudaMemcpyPeerAsync(incoming[to], to, data[from], from, n * sizeof(int), streams[to]));
        add_from<<<blocks, 256, 0, streams[to]>>>(data[to], incoming[to], n);
        CHECK(cudaEventRecord(done[to], streams[to]));
    }
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        CHECK(cudaStreamSynchronize(streams[d]));
        std::printf("ring %d: %lld\n", d, sum(to_host(data[d], n)));
    }
    save("ring", to_host(data[last], n));
    CHECK(cudaSetDevice(0));
    std::printf("event of another gpu: %s\n", cudaGetErrorName(cudaEventRecord(done[last], streams[0])));
    cudaGetLastError();

    // Host memory that all GPUs reach, one after the other.
    int* mapped = nullptr;
    CHECK(cudaHostAlloc(&mapped, n * sizeof(int), cudaHostAllocMapped | cudaHostAllocPortable));
    int* managed = nullptr;
    CHECK(cudaMallocManaged(&managed, n * sizeof(int)));
    for (int i = 0; i < n; ++i) mapped[i] = managed[i] = i;
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        int* seen = nullptr;
        CHECK(cudaHostGetDevicePointer(&seen, mapped, 0));
        scale<<<blocks, 256>>>(seen, n);
        scale<<<blocks, 256>>>(managed, n);
        count_up<<<1, 1>>>(d + 1);
        CHECK(cudaDeviceSynchronize());
        mapped[7] += 1;
        managed[9] += 1;
        counter += 1000;
    }
    std::printf("mapped %lld managed %lld counter %d\n", sum({mapped, mapped + n}), sum({managed, managed + n}), counter);
    CHECK(cudaFree(managed));
    CHECK(cudaFreeHost(mapped));

    // Threads with a GPU each.
    std::vector<std::thread> threads;
    std::vector<long long> sums(devices);
    for (int d = 0; d < devices; ++d) {
        threads.emplace_back([&, d] {
            CHECK(cudaSetDevice(d));
            int* own = to_device(numbers(d));
            for (int turn = 0; turn < 20; ++turn) add_from<<<blocks, 256>>>(own, own, n);
            CHECK(cudaDeviceSynchronize());
            sums[d] = sum(to_host(own, 100));
            CHECK(cudaFree(own));
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (int d = 0; d < devices; ++d) std::printf("thread %d: %lld\n", d, sums[d]);

    // Memory is each GPU's own.
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        size_t before = 0, during = 0, after = 0, total = 0;
        CHECK(cudaMemGetInfo(&before, &total));
        void* block = nullptr;
        CHECK(cudaMalloc(&block, 64 << 20));
        CHECK(cudaMemGetInfo(&during, &total));
        CHECK(cudaSetDevice((d + 1) % devices));
        CHECK(cudaFree(block));
        CHECK(cudaSetDevice(d));
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemGetInfo(&after, &total));
        std::printf("gpu %d takes %zu MiB and has them back: %d\n", d, (before - during) >> 20, before == after);
    }
    return 0;
}
