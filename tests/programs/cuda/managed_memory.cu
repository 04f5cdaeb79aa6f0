// Managed memory: allocations and variables that host and device share, with advice, prefetch and attributes.
#include "program.h"

__managed__ int counter = 5;
__managed__ double table[8] = {1, 2, 3, 4, 5, 6, 7, 8};

struct Node {
    int value;
    Node* next;
};

__global__ void count(int n) {
    if (blockIdx.x * blockDim.x + threadIdx.x < n) atomicAdd(&counter, 1);
    if (blockIdx.x == 0 && threadIdx.x < 8) table[threadIdx.x] *= 2;
}

// A list that the host built, walked and extended by the device.
__global__ void walk(Node* head, Node* spare, int* sum) {
    Node* last = nullptr;
    for (Node* node = head; node; node = node->next) {
        *sum += node->value;
        last = node;
    }
    spare->value = 1000;
    spare->next = nullptr;
    last->next = spare;
}

__global__ void square(int* data, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = data[i] * data[i];
}

int main(int count_of_arguments, char** arguments) {
    start(count_of_arguments, arguments);
    counter += 1;
    count<<<3, 64>>>(150);
    CHECK(cudaDeviceSynchronize());
    std::printf("counter %d table %g %g\n", counter, table[0], table[7]);

    Node* nodes = nullptr;
    int* sum = nullptr;
    CHECK(cudaMallocManaged(&nodes, 11 * sizeof(Node)));
    CHECK(cudaMallocManaged(&sum, sizeof(int)));
    for (int i = 0; i < 10; ++i) nodes[i] = {i + 1, i < 9 ? &nodes[i + 1] : nullptr};
    *sum = 0;
    walk<<<1, 1>>>(nodes, &nodes[10], sum);
    CHECK(cudaDeviceSynchronize());
    int total = 0;
    for (const Node* node = nodes; node; node = node->next) total += node->value;
    std::printf("list %d then %d\n", *sum, total);

    const int n = 5000;
    int* data = nullptr;
    CHECK(cudaMallocManaged(&data, n * sizeof(int)));
    cudaPointerAttributes attributes{};
    CHECK(cudaPointerGetAttributes(&attributes, data));
    std::printf("managed %d\n", attributes.type == cudaMemoryTypeManaged);
    cudaMemLocation device{cudaMemLocationTypeDevice, 0}, host{cudaMemLocationTypeHost, 0};
    CHECK(cudaMemAdvise(data, n * sizeof(int), cudaMemAdviseSetReadMostly, device));
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < n; ++i) data[i] = i % 100 + round;
        CHECK(cudaMemPrefetchAsync(data, n * sizeof(int), device, 0, nullptr));
        square<<<(n + 255) / 256, 256>>>(data, n);
        CHECK(cudaMemPrefetchAsync(data, n * sizeof(int), host, 0, nullptr));
        CHECK(cudaDeviceSynchronize());
        long long check = 0;
        for (int i = 0; i < n; ++i) check += data[i];
        std::printf("round %d %lld\n", round, check);
    }
    CHECK(cudaFree(data));
    CHECK(cudaFree(nodes));
    CHECK(cudaFree(sum));
    return 0;
}
