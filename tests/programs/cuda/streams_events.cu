// Streams and events: order within a stream, order between streams only by events, callbacks, queries, timing.
#include <atomic>
#include <thread>

#include "program.h"

__global__ void append(int* log, int* used, int value) { log[atomicAdd(used, 1)] = value; }

// Waits until the host, or another stream, raises the flag.
__global__ void wait_for(volatile int* flag) {
    while (*flag == 0) {
    }
}

__global__ void raise_flag(volatile int* flag) { *flag = 1; }

__global__ void scale(float* data, int n, float factor) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = data[i] * factor + 1.0f;
}

std::atomic<int> called{0};

void CUDART_CB on_host(void* data) { called += *static_cast<int*>(data); }

int main(int count, char** arguments) {
    start(count, arguments);
    // 1. Two streams that need each other: only running at the same time can they end.
    cudaStream_t first, second;
    CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    int* flags = on_device<int>(2);
    CHECK(cudaMemset(flags, 0, 2 * sizeof(int)));
    CHECK(cudaDeviceSynchronize());
    wait_for<<<1, 1, 0, first>>>(flags);
    cudaEvent_t waiting;
    CHECK(cudaEventCreateWithFlags(&waiting, cudaEventDisableTiming));
    CHECK(cudaEventRecord(waiting, first));
    std::printf("before: stream %s, event %s\n", cudaGetErrorName(cudaStreamQuery(first)),
                cudaGetErrorName(cudaEventQuery(waiting)));
    raise_flag<<<1, 1, 0, second>>>(flags);
    CHECK(cudaStreamSynchronize(first));
    std::printf("after: stream %s, event %s\n", cudaGetErrorName(cudaStreamQuery(first)),
                cudaGetErrorName(cudaEventQuery(waiting)));

    // 2. Order by events: 0..9 alternate between the streams, each waiting for the other.
    int *log = on_device<int>(16), *used = on_device<int>(1);
    CHECK(cudaMemset(used, 0, sizeof(int)));
    CHECK(cudaDeviceSynchronize());
    std::vector<cudaEvent_t> events(10);
    for (int i = 0; i < 10; ++i) {
        const cudaStream_t here = i % 2 ? second : first;
        CHECK(cudaEventCreate(&events[i]));
        if (i > 0) CHECK(cudaStreamWaitEvent(here, events[i - 1], 0));
        append<<<1, 1, 0, here>>>(log, used, i);
        CHECK(cudaEventRecord(events[i], here));
    }
    CHECK(cudaEventSynchronize(events[9]));
    float between = -1;
    CHECK(cudaEventElapsedTime(&between, events[0], events[9]));
    REQUIRE(between >= 0);
    std::printf("order");
    for (const int value : to_host(log, 10)) std::printf(" %d", value);
    std::printf("\n");

    // 3. Host functions run in stream order.
    int one = 1, ten = 10;
    CHECK(cudaLaunchHostFunc(first, on_host, &one));
    CHECK(cudaLaunchHostFunc(first, on_host, &ten));
    CHECK(cudaStreamSynchronize(first));
    std::printf("called %d\n", called.load());

    // 4. Chunks pipelined over four streams: copy in, compute, copy out.
    const auto in = load<float>("in");
    const int n = static_cast<int>(in.size()), chunk = n / 4;
    float *pinned_in, *pinned_out, *data = on_device<float>(n);
    CHECK(cudaMallocHost(&pinned_in, n * sizeof(float)));
    CHECK(cudaMallocHost(&pinned_out, n * sizeof(float)));
    std::memcpy(pinned_in, in.data(), n * sizeof(float));
    int least = 0, greatest = 0;
    CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    REQUIRE(greatest <= least);
    for (int i = 0; i < 4; ++i) {
        cudaStream_t stream;
        CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamDefault, i % 2 ? least : greatest));
        float* part = data + i * chunk;
        CHECK(cudaMemcpyAsync(part, pinned_in + i * chunk, chunk * sizeof(float), cudaMemcpyHostToDevice, stream));
        for (int k = 0; k < 3; ++k) scale<<<(chunk + 127) / 128, 128, 0, stream>>>(part, chunk, 2.0f);
        CHECK(cudaMemcpyAsync(pinned_out + i * chunk, part, chunk * sizeof(float), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamDestroy(stream));  // the work goes on
    }
    CHECK(cudaDeviceSynchronize());
    save("out", std::vector<float>(pinned_out, pinned_out + n));

    // 5. The legacy default stream waits for blocking streams, and they for it.
    cudaStream_t blocking;
    CHECK(cudaStreamCreate(&blocking));
    CHECK(cudaMemset(used, 0, sizeof(int)));
    for (int i = 0; i < 6; ++i) append<<<1, 1, 0, i % 2 ? blocking : nullptr>>>(log, used, 10 + i);
    CHECK(cudaStreamSynchronize(nullptr));
    CHECK(cudaStreamSynchronize(blocking));
    std::printf("legacy");
    for (const int value : to_host(log, 6)) std::printf(" %d", value);
    std::printf("\n");

    // 6. Threads of the host with a stream each.
    std::vector<std::thread> threads;
    std::vector<int> results(4);
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([t, &results] {
            cudaStream_t mine;
            CHECK(cudaStreamCreate(&mine));
            int *l, *u;
            CHECK(cudaMallocAsync(&l, 64 * sizeof(int), mine));
            CHECK(cudaMallocAsync(&u, sizeof(int), mine));
            CHECK(cudaMemsetAsync(u, 0, sizeof(int), mine));
            for (int i = 0; i < 50; ++i) append<<<1, 1, 0, mine>>>(l, u, t);
            CHECK(cudaMemcpyAsync(&results[t], u, sizeof(int), cudaMemcpyDeviceToHost, mine));
            CHECK(cudaStreamSynchronize(mine));
        });
    }
    for (auto& thread : threads) thread.join();
    std::printf("threads %d %d %d %d\n", results[0], results[1], results[2], results[3]);
    return 0;
}
