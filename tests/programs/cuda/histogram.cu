// Counts of bytes: atomics in global memory, then in shared memory; a generic pointer to either.
#include "program.h"

__global__ void count_globally(const uint8_t* in, unsigned* bins, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[in[i]], 1u);
}

__device__ __noinline__ void count_into(unsigned* bins, uint8_t value) { atomicAdd(bins + value, 1u); }

__global__ void count_in_shared(const uint8_t* in, unsigned* bins, int n) {
    __shared__ unsigned mine[256];
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) mine[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        // Every eleventh value goes straight to global memory, through the same function.
        count_into(i % 11 == 0 ? bins : mine, in[i]);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) {
        if (mine[bin]) atomicAdd(&bins[bin], mine[bin]);
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto in = load<uint8_t>("in");
    const int n = static_cast<int>(in.size());
    uint8_t* values = to_device(in);
    unsigned* bins = on_device<unsigned>(256);
    CHECK(cudaMemset(bins, 0, 256 * sizeof(unsigned)));
    count_globally<<<8, 128>>>(values, bins, n);
    save("global", to_host(bins, 256));
    CHECK(cudaMemset(bins, 0, 256 * sizeof(unsigned)));
    count_in_shared<<<8, 128>>>(values, bins, n);
    CHECK(cudaGetLastError());
    save("shared", to_host(bins, 256));
    return 0;
}
