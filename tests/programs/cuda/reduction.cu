// Sums by warp shuffles: int, 64-bit and double; the largest by shuffles in a butterfly.
#include "program.h"

template <typename T>
__device__ T warp_sum(T value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    return value;
}

template <typename T>
__global__ void sum(const T* in, T* out, int n) {
    __shared__ T partial[32];
    T total = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) total += in[i];
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x < 32) {
        total = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : T(0);
        total = warp_sum(total);
        if (threadIdx.x == 0) out[blockIdx.x] = total;
    }
}

__global__ void largest_of_warps(const float* in, float* out) {
    float value = in[blockIdx.x * blockDim.x + threadIdx.x];
    for (int mask = 1; mask < 32; mask *= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, mask));
    out[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

template <typename T>
T run(const std::vector<T>& values) {
    T *in = to_device(values), *partial = on_device<T>(24), *total = on_device<T>(1);
    sum<<<24, 256>>>(in, partial, static_cast<int>(values.size()));
    sum<<<1, 64>>>(partial, total, 24);
    CHECK(cudaGetLastError());
    return to_host(total, 1)[0];
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto ints = load<int>("ints");
    std::printf("int %d\n", run(ints));
    std::printf("int64 %lld\n", run(load<long long>("longs")));
    std::printf("double %.17g\n", run(load<double>("doubles")));
    const auto floats = load<float>("floats");
    float *in = to_device(floats), *out = on_device<float>(floats.size());
    largest_of_warps<<<floats.size() / 64, 64>>>(in, out);
    CHECK(cudaGetLastError());
    save("largest", to_host(out, floats.size()));
    return 0;
}
