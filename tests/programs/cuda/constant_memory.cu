// Constant and global variables: initial values, copies to and from symbols, addresses, pointers inside constants.
#include "program.h"

struct Filter {
    float weights[5];
    int radius;
    const int* table;
};

__constant__ Filter filter;
__constant__ int primes[6] = {2, 3, 5, 7, 11, 13};
__device__ int lookup[4] = {10, 20, 30, 40};
__device__ int counter = 100;
__device__ const char* message = "from the device";
__device__ char text[32];

__global__ void convolve(const float* in, float* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0;
    for (int k = -filter.radius; k <= filter.radius; ++k) {
        const int j = min(max(i + k, 0), n - 1);
        sum += filter.weights[k + filter.radius] * in[j];
    }
    out[i] = sum + filter.table[i % 4] + primes[i % 6];
}

__global__ void touch() {
    atomicAdd(&counter, static_cast<int>(threadIdx.x));
    if (threadIdx.x == 0) {
        int i = 0;
        for (; message[i]; ++i) text[i] = message[i];
        text[i] = 0;
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto in = load<float>("in");
    const int n = static_cast<int>(in.size());
    void* table = nullptr;
    CHECK(cudaGetSymbolAddress(&table, lookup));
    const Filter host{{1, 2, 4, 2, 1}, 2, static_cast<const int*>(table)};
    CHECK(cudaMemcpyToSymbol(filter, &host, sizeof host));
    const int replaced = 6;
    CHECK(cudaMemcpyToSymbol(primes, &replaced, sizeof(int), 5 * sizeof(int)));
    float *from = to_device(in), *to = on_device<float>(n);
    convolve<<<(n + 63) / 64, 64>>>(from, to, n);
    CHECK(cudaGetLastError());
    save("out", to_host(to, n));
    touch<<<1, 32>>>();
    int counted = 0;
    char words[32];
    CHECK(cudaMemcpyFromSymbol(&counted, counter, sizeof counted));
    CHECK(cudaMemcpyFromSymbol(words, text, sizeof words));
    size_t size = 0;
    CHECK(cudaGetSymbolSize(&size, filter));
    std::printf("counter %d text %s filter %zu bytes\n", counted, words, size);
    return 0;
}
