// Times two ordinary kernels with CUDA events and checks their results: SAXPY, and a tiled matrix product in shared memory.
#include <cstdio>
#include <cstdlib>
#include <vector>

constexpr int tile = 16;

__global__ void saxpy(int n, float a, const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

__global__ void product(int n, const float* a, const float* b, float* c) {
    __shared__ float as[tile][tile], bs[tile][tile];
    int row = blockIdx.y * tile + threadIdx.y, column = blockIdx.x * tile + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k += tile) {
        as[threadIdx.y][threadIdx.x] = a[row * n + k + threadIdx.x];
        bs[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + column];
        __syncthreads();
        for (int i = 0; i < tile; i++) sum += as[threadIdx.y][i] * bs[i][threadIdx.x];
        __syncthreads();
    }
    c[row * n + column] = sum;
}

static void check(cudaError_t error) {
    if (error != cudaSuccess) {
        std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
        std::exit(1);
    }
}

static float* upload(const std::vector<float>& values) {
    float* device = nullptr;
    check(cudaMalloc(&device, values.size() * sizeof(float)));
    check(cudaMemcpy(device, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
    return device;
}

int main() {
    cudaEvent_t start, end;
    check(cudaEventCreate(&start));
    check(cudaEventCreate(&end));
    float milliseconds = 0;

    const int n = 1 << 24;
    float *x = upload(std::vector<float>(n, 3)), *y = upload(std::vector<float>(n, 1));
    check(cudaEventRecord(start));
    saxpy<<<n / 256, 256>>>(n, 2, x, y);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&milliseconds, start, end));
    std::vector<float> result(n);
    check(cudaMemcpy(result.data(), y, n * sizeof(float), cudaMemcpyDeviceToHost));
    for (float value : result)
        if (value != 7) return 2;
    std::printf("saxpy %.6f\n", milliseconds / 1000);

    const int side = 512;
    float *a = upload(std::vector<float>(side * side, 2)), *b = upload(std::vector<float>(side * side, 0.5f));
    float* c = upload(std::vector<float>(side * side, 0));
    check(cudaEventRecord(start));
    product<<<dim3(side / tile, side / tile), dim3(tile, tile)>>>(side, a, b, c);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&milliseconds, start, end));
    result.resize(side * side);
    check(cudaMemcpy(result.data(), c, side * side * sizeof(float), cudaMemcpyDeviceToHost));
    for (float value : result)
        if (value != side) return 3;
    std::printf("matmul %.6f\n", milliseconds / 1000);
    return 0;
}
