// Cooperative groups: tiles, coalesced groups, the grid, and warp-wide algorithms.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;

extern "C" __global__ void grid_sync(int* data, int rounds) {
    cg::grid_group grid = cg::this_grid();
    int n = grid.size(), i = grid.thread_rank();
    for (int r = 0; r < rounds; ++r) {
        int next = data[(i + 1) % n];
        grid.sync();
        data[i] = next + 1;
        grid.sync();
    }
}
extern "C" __global__ void tiles(const int* in, int* out) {
    cg::thread_block block = cg::this_thread_block();
    auto tile = cg::tiled_partition<8>(block);
    int v = in[block.thread_rank()];
    int sum = cg::reduce(tile, v, cg::plus<int>());
    int most = cg::reduce(tile, v, cg::greater<int>());
    int before = cg::exclusive_scan(tile, v);
    out[block.thread_rank() * 4] = sum;
    out[block.thread_rank() * 4 + 1] = most;
    out[block.thread_rank() * 4 + 2] = before;
    out[block.thread_rank() * 4 + 3] = tile.shfl(v, 3) + tile.any(v == 7) + tile.meta_group_rank() * 1000;
}
extern "C" __global__ void coalesced(const int* in, int* out, int* total) {
    int i = threadIdx.x;
    if (in[i] % 3 == 1) {
        auto active = cg::coalesced_threads();
        int base = 0;
        if (active.thread_rank() == 0) base = atomicAdd(total, active.size());
        base = active.shfl(base, 0);
        out[base + active.thread_rank()] = in[i];
    }
}
extern "C" __global__ void multi_warp(const int* in, int* out) {
    __shared__ cg::block_tile_memory<256> memory;
    auto block = cg::this_thread_block(memory);
    auto tile = cg::tiled_partition<64>(block);
    int v = in[block.thread_rank()];
    out[block.thread_rank()] = cg::reduce(tile, v, cg::plus<int>());
}
extern "C" __global__ void reserved_shared(const int* in, int* out) {
    auto block = cg::this_thread_block();
    int v = in[block.thread_rank()];
    auto tile = cg::tiled_partition<32>(block);
    int s = cg::reduce(tile, v, cg::plus<int>());
    out[block.thread_rank()] = s + block.num_threads();
}
extern "C" __global__ void block_scan(const int* in, int* out, int n) {
    extern __shared__ int buffer[];
    int i = threadIdx.x;
    buffer[i] = i < n ? in[i] : 0;
    __syncthreads();
    for (int d = 1; d < blockDim.x; d *= 2) {
        int v = i >= d ? buffer[i - d] : 0;
        __syncthreads();
        buffer[i] += v;
        __syncthreads();
    }
    if (i < n) out[i] = buffer[i];
}
extern "C" __global__ void bitonic_sort(float* data, int n) {
    extern __shared__ float values[];
    int i = threadIdx.x;
    values[i] = data[i];
    for (int k = 2; k <= n; k *= 2)
        for (int j = k / 2; j > 0; j /= 2) {
            __syncthreads();
            int other = i ^ j;
            if (other > i) {
                bool up = (i & k) == 0;
                if ((values[i] > values[other]) == up) {
                    float t = values[i];
                    values[i] = values[other];
                    values[other] = t;
                }
            }
        }
    __syncthreads();
    data[i] = values[i];
}
extern "C" __global__ void histogram(const unsigned char* in, unsigned* bins, int n) {
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) local[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[in[i]], 1u);
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) atomicAdd(&bins[b], local[b]);
}
extern "C" __global__ void transpose(const float* in, float* out, int w, int h) {
    __shared__ float tile[32][33];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < w && y + j < h) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * w + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x;
    y = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < h && y + j < w) out[(y + j) * h + x] = tile[threadIdx.x][threadIdx.y + j];
}
extern "C" __global__ void shuffle_reduce(const double* in, double* out, int n) {
    double v = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += in[i];
    for (int k = 16; k; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
    if (threadIdx.x % 32 == 0) atomicAdd(out, v);
}
extern "C" __global__ void divergent_shuffle(int* out) {
    int lane = threadIdx.x;
    int v = lane * 10;
    if (lane < 8)
        v = __shfl_sync(0x000000ffu, v, 7 - lane);
    else
        v = __shfl_down_sync(0xffffff00u, v, 1);
    unsigned m = __match_any_sync(0xffffffffu, lane / 5);
    out[lane] = v + __popc(m) * 10000;
}
extern "C" __global__ void shuffle_in_place(int* data) {
    // One register is source and destination, as in CUB's shuffles of 64-bit values.
    int v = data[threadIdx.x];
    asm volatile("shfl.sync.up.b32 %0, %0, 1, 0, -1;" : "+r"(v));
    asm volatile("shfl.sync.down.b32 %0, %0, 3, 31, -1;" : "+r"(v));
    data[threadIdx.x] = v;
}
