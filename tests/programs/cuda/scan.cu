// Inclusive prefix sums of any length: blocks in shared memory, then the sums of blocks, then their addition.
#include "program.h"

constexpr int width = 256;

__global__ void scan_blocks(const int* in, int* out, int* sums, int n) {
    __shared__ int buffer[2][width];
    const int i = blockIdx.x * width + threadIdx.x;
    int from = 0;
    buffer[0][threadIdx.x] = i < n ? in[i] : 0;
    __syncthreads();
    for (int offset = 1; offset < width; offset *= 2) {
        const int to = 1 - from;
        const int here = buffer[from][threadIdx.x];
        buffer[to][threadIdx.x] = threadIdx.x >= offset ? here + buffer[from][threadIdx.x - offset] : here;
        from = to;
        __syncthreads();
    }
    if (i < n) out[i] = buffer[from][threadIdx.x];
    if (threadIdx.x == width - 1) sums[blockIdx.x] = buffer[from][threadIdx.x];
}

__global__ void add_sums(int* out, const int* sums, int n) {
    const int i = blockIdx.x * width + threadIdx.x;
    if (blockIdx.x > 0 && i < n) out[i] += sums[blockIdx.x - 1];
}

void scan(const int* in, int* out, int n) {
    const int blocks = (n + width - 1) / width;
    int* sums = on_device<int>(blocks);
    scan_blocks<<<blocks, width>>>(in, out, sums, n);
    if (blocks > 1) {
        scan(sums, sums, blocks);
        add_sums<<<blocks, width>>>(out, sums, n);
    }
    CHECK(cudaFree(sums));
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto in = load<int>("in");
    const int n = static_cast<int>(in.size());
    int *from = to_device(in), *to = on_device<int>(n);
    scan(from, to, n);
    CHECK(cudaGetLastError());
    save("out", to_host(to, n));
    return 0;
}
