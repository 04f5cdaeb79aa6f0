// Device properties, function attributes, occupancy: what must hold between them.
#include "program.h"

__global__ void plain(int* data) { data[threadIdx.x] = threadIdx.x; }

__global__ void __launch_bounds__(128) bounded(int* data) {
    __shared__ int room[1000];
    room[threadIdx.x] = data[threadIdx.x];
    __syncthreads();
    data[threadIdx.x] = room[127 - threadIdx.x];
}

__global__ void dynamic(float* out) {
    extern __shared__ float room[];
    room[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
}

int main(int count, char** arguments) {
    start(count, arguments);
    cudaDeviceProp p{};
    CHECK(cudaGetDeviceProperties(&p, 0));
    REQUIRE(p.warpSize == 32 && p.maxThreadsPerBlock == 1024 && p.maxThreadsPerMultiProcessor % 32 == 0);
    REQUIRE(p.maxThreadsDim[0] == 1024 && p.maxThreadsDim[1] == 1024 && p.maxThreadsDim[2] == 64);
    REQUIRE(p.maxGridSize[0] == 2147483647 && p.maxGridSize[1] == 65535 && p.maxGridSize[2] == 65535);
    REQUIRE(p.sharedMemPerBlock == 49152 && p.sharedMemPerBlockOptin >= p.sharedMemPerBlock);
    REQUIRE(p.totalConstMem == 65536 && p.unifiedAddressing == 1 && p.name[0] != 0);
    const int attributes[][2] = {{cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
                                 {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
                                 {cudaDevAttrComputeCapabilityMajor, p.major},
                                 {cudaDevAttrWarpSize, 32}};
    for (const auto& attribute : attributes) {
        int value = 0;
        CHECK(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(attribute[0]), 0));
        REQUIRE(value == attribute[1]);
    }
    size_t free_bytes = 0, total_bytes = 0;
    CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    REQUIRE(total_bytes == p.totalGlobalMem && free_bytes <= total_bytes);
    void* held = nullptr;
    CHECK(cudaMalloc(&held, 64 << 20));
    size_t free_now = 0;
    CHECK(cudaMemGetInfo(&free_now, &total_bytes));
    REQUIRE(free_now <= free_bytes - (64 << 20));
    CHECK(cudaFree(held));

    cudaFuncAttributes plain_attributes{}, bounded_attributes{};
    CHECK(cudaFuncGetAttributes(&plain_attributes, plain));
    CHECK(cudaFuncGetAttributes(&bounded_attributes, bounded));
    std::printf("static shared %zu %zu\n", plain_attributes.sharedSizeBytes, bounded_attributes.sharedSizeBytes);
    std::printf("threads %d %d\n", plain_attributes.maxThreadsPerBlock, bounded_attributes.maxThreadsPerBlock);
    int blocks = 0, grid = 0, block = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, plain, 256, 0));
    REQUIRE(blocks >= 1 && blocks * 256 <= p.maxThreadsPerMultiProcessor);
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, plain, 32, 40000));
    REQUIRE(blocks >= 1 && blocks * 40000 <= static_cast<int>(p.sharedMemPerMultiprocessor));
    CHECK(cudaOccupancyMaxPotentialBlockSize(&grid, &block, bounded, 0, 0));
    REQUIRE(block >= 32 && block <= 128 && grid >= p.multiProcessorCount);
    // More dynamic shared memory than the default needs the opt-in.
    const int wanted = 60000;
    float* out = on_device<float>(256);
    dynamic<<<1, 256, wanted>>>(out);
    std::printf("without opt-in: %s\n", cudaGetErrorName(cudaGetLastError()));
    CHECK(cudaFuncSetAttribute(dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, wanted));
    dynamic<<<1, 256, wanted>>>(out);
    CHECK(cudaGetLastError());
    const auto values = to_host(out, 256);
    std::printf("with opt-in: %g %g\n", values[0], values[255]);
    bounded<<<1, 256>>>(reinterpret_cast<int*>(out));
    std::printf("beyond the bound: %s\n", cudaGetErrorName(cudaGetLastError()));
    return 0;
}
