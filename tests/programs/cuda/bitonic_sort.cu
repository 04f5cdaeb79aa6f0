// Bitonic sort of pairs: small steps within a block's dynamic shared memory, large ones in global memory.
#include "program.h"

struct Pair {
    unsigned key, value;
};

__device__ void order(Pair& a, Pair& b, bool ascending) {
    const bool swapped = a.key > b.key || (a.key == b.key && a.value > b.value);
    if (swapped == ascending) {
        const Pair keep = a;
        a = b;
        b = keep;
    }
}

__global__ void step_in_global(Pair* data, int distance, int run) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, j = i ^ distance;
    if (j > i) order(data[i], data[j], (i & run) == 0);
}

__global__ void steps_in_shared(Pair* data, int run) {
    extern __shared__ Pair here[];
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    here[threadIdx.x] = data[i];
    __syncthreads();
    for (int distance = min(run, static_cast<int>(blockDim.x)) / 2; distance > 0; distance /= 2) {
        const unsigned partner = threadIdx.x ^ distance;
        if (partner > threadIdx.x) order(here[threadIdx.x], here[partner], (i & run) == 0);
        __syncthreads();
    }
    data[i] = here[threadIdx.x];
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto keys = load<unsigned>("keys");
    const int n = static_cast<int>(keys.size()), width = 256;
    std::vector<Pair> pairs(n);
    for (int i = 0; i < n; ++i) pairs[i] = {keys[i], static_cast<unsigned>(i)};
    Pair* data = to_device(pairs);
    for (int run = 2; run <= n; run *= 2) {
        for (int distance = run / 2; distance >= width; distance /= 2) {
            step_in_global<<<n / width, width>>>(data, distance, run);
        }
        steps_in_shared<<<n / width, width, width * sizeof(Pair)>>>(data, run);
    }
    CHECK(cudaGetLastError());
    save("sorted", to_host(data, n));
    return 0;
}
