// A transpose through shared memory between pitched arrays, with 2D and 3D copies and sets.
#include "program.h"

constexpr int tile = 32, rows_at_once = 8;

__global__ void transpose(const double* in, size_t in_pitch, double* out, size_t out_pitch, int rows, int columns) {
    __shared__ double block[tile][tile + 1];
    const int x = blockIdx.x * tile + threadIdx.x;
    for (int j = threadIdx.y; j < tile; j += rows_at_once) {
        const int y = blockIdx.y * tile + j;
        if (x < columns && y < rows) block[j][threadIdx.x] = in[y * in_pitch / sizeof(double) + x];
    }
    __syncthreads();
    const int x2 = blockIdx.y * tile + threadIdx.x;
    for (int j = threadIdx.y; j < tile; j += rows_at_once) {
        const int y2 = blockIdx.x * tile + j;
        if (x2 < rows && y2 < columns) out[y2 * out_pitch / sizeof(double) + x2] = block[threadIdx.x][j];
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto shape = load<int>("shape");
    const int rows = shape[0], columns = shape[1];
    const auto in = load<double>("in");
    double *from = nullptr, *to = nullptr;
    size_t from_pitch = 0, to_pitch = 0;
    CHECK(cudaMallocPitch(&from, &from_pitch, columns * sizeof(double), rows));
    CHECK(cudaMallocPitch(&to, &to_pitch, rows * sizeof(double), columns));
    REQUIRE(from_pitch >= columns * sizeof(double) && from_pitch % 256 == 0);
    CHECK(cudaMemcpy2D(from, from_pitch, in.data(), columns * sizeof(double), columns * sizeof(double), rows,
                       cudaMemcpyHostToDevice));
    const dim3 grid((columns + tile - 1) / tile, (rows + tile - 1) / tile), block(tile, rows_at_once);
    transpose<<<grid, block>>>(from, from_pitch, to, to_pitch, rows, columns);
    CHECK(cudaGetLastError());
    std::vector<double> out(in.size());
    CHECK(cudaMemcpy2D(out.data(), rows * sizeof(double), to, to_pitch, rows * sizeof(double), columns,
                       cudaMemcpyDeviceToHost));
    save("out", out);

    // A box inside a 3D array: set it, copy it elsewhere, copy it back.
    const cudaExtent extent = make_cudaExtent(64, 5, 4);
    cudaPitchedPtr box{};
    CHECK(cudaMalloc3D(&box, extent));
    CHECK(cudaMemset3D(box, 0x11, extent));
    CHECK(cudaMemset2D(static_cast<char*>(box.ptr) + 8, box.pitch, 0x77, 16, 5));
    std::vector<uint8_t> host(64 * 5 * 4);
    cudaMemcpy3DParms copy{};
    copy.srcPtr = box;
    copy.dstPtr = make_cudaPitchedPtr(host.data(), 64, 64, 5);
    copy.extent = extent;
    copy.kind = cudaMemcpyDeviceToHost;
    CHECK(cudaMemcpy3D(&copy));
    save("box", host);
    return 0;
}
