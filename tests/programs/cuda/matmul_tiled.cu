// C = A * B in float, through tiles in shared memory; sizes that no tile divides.
#include "program.h"

constexpr int tile = 16;

__global__ void multiply(const float* a, const float* b, float* c, int rows, int inner, int columns) {
    __shared__ float left[tile][tile], right[tile][tile + 1];
    const int row = blockIdx.y * tile + threadIdx.y, column = blockIdx.x * tile + threadIdx.x;
    float sum = 0;
    for (int start = 0; start < inner; start += tile) {
        const int k = start + threadIdx.x, l = start + threadIdx.y;
        left[threadIdx.y][threadIdx.x] = row < rows && k < inner ? a[row * inner + k] : 0.0f;
        right[threadIdx.y][threadIdx.x] = l < inner && column < columns ? b[l * columns + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < tile; ++i) sum += left[threadIdx.y][i] * right[i][threadIdx.x];
        __syncthreads();
    }
    if (row < rows && column < columns) c[row * columns + column] = sum;
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto shape = load<int>("shape");
    const int rows = shape[0], inner = shape[1], columns = shape[2];
    const auto a = load<float>("a"), b = load<float>("b");
    float *da = to_device(a), *db = to_device(b), *dc = on_device<float>(static_cast<size_t>(rows) * columns);
    const dim3 grid((columns + tile - 1) / tile, (rows + tile - 1) / tile), block(tile, tile);
    multiply<<<grid, block>>>(da, db, dc, rows, inner, columns);
    CHECK(cudaGetLastError());
    save("c", to_host(dc, static_cast<size_t>(rows) * columns));
    return 0;
}
