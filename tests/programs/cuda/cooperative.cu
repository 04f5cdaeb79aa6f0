// Cooperative groups: tiles, coalesced threads, block and grid synchronisation.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include "program.h"

namespace cg = cooperative_groups;

// Sum and inclusive scan of every tile of 8.
__global__ void tiles(const int* in, int* sums, int* scans) {
    const auto tile = cg::tiled_partition<8>(cg::this_thread_block());
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const int sum = cg::reduce(tile, in[i], cg::plus<int>());
    scans[i] = cg::inclusive_scan(tile, in[i], cg::plus<int>());
    if (tile.thread_rank() == 0) sums[i / 8] = sum;
}

// The threads with an odd value add up how many they are, one atomic a group.
__global__ void count_odd(const int* in, unsigned* total, unsigned* groups) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (in[i] & 1) {
        const auto active = cg::coalesced_threads();
        if (active.thread_rank() == 0) {
            atomicAdd(total, active.size());
            atomicAdd(groups, 1u);
        }
    }
}

// Repeated smoothing of a ring: each step needs the whole of the one before.
__global__ void smooth(int* from, int* to, int n, int steps) {
    const auto grid = cg::this_grid();
    for (int step = 0; step < steps; ++step) {
        for (unsigned long long i = grid.thread_rank(); i < n; i += grid.size()) {
            to[i] = (from[(i + n - 1) % n] + 2 * from[i] + from[(i + 1) % n]) & 0xffff;
        }
        grid.sync();
        int* swap = from;
        from = to;
        to = swap;
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto in = load<int>("in");
    int n = static_cast<int>(in.size());
    int *d = to_device(in), *sums = on_device<int>(n / 8), *scans = on_device<int>(n);
    tiles<<<n / 128, 128>>>(d, sums, scans);
    CHECK(cudaGetLastError());
    save("sums", to_host(sums, n / 8));
    save("scans", to_host(scans, n));

    auto* counts = to_device(std::vector<unsigned>{0, 0});
    count_odd<<<n / 128, 128>>>(d, counts, counts + 1);
    CHECK(cudaGetLastError());
    const auto counted = to_host(counts, 2);
    std::printf("odd %u\n", counted[0]);
    REQUIRE(counted[1] >= static_cast<unsigned>(n) / 128 && counted[1] <= counted[0]);

    int cooperative = 0, blocks = 0;
    CHECK(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, 0));
    REQUIRE(cooperative == 1);
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, smooth, 64, 0));
    int processors = 0;
    CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
    const int grid = blocks * processors < 6 ? blocks * processors : 6;
    int steps = 9;
    int* other = on_device<int>(n);
    void* parameters[] = {&d, &other, &n, &steps};
    CHECK(cudaLaunchCooperativeKernel(smooth, dim3(grid), dim3(64), parameters, 0, nullptr));
    save("smooth", to_host(other, n));

    // More blocks than fit at once cannot wait for one another.
    const cudaError_t refused = cudaLaunchCooperativeKernel(smooth, dim3(blocks * processors + 1), dim3(64), parameters, 0, nullptr);
    std::printf("too many blocks: %s\n", cudaGetErrorName(refused));
    CHECK(cudaGetLastError() == refused ? cudaSuccess : cudaErrorUnknown);
    return 0;
}
