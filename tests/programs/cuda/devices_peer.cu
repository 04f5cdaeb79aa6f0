// Several devices: each works on its own memory, peers copy to one another and read one another's memory.
#include "program.h"

__global__ void fill(int* data, int n, int value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = value + i;
}

__global__ void sum_with(int* mine, const int* theirs, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) mine[i] += theirs[i];
}

int main(int count, char** arguments) {
    start(count, arguments);
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    std::printf("devices %d\n", devices);
    const int n = 1024;
    std::vector<int*> data(devices);
    for (int d = 0; d < devices; ++d) {
        CHECK(cudaSetDevice(d));
        data[d] = on_device<int>(n);
        fill<<<n / 128, 128>>>(data[d], n, 10000 * (d + 1));
        CHECK(cudaGetLastError());
        cudaDeviceProp properties{};
        CHECK(cudaGetDeviceProperties(&properties, d));
        char bus[32];
        CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, d));
        int back = -1;
        CHECK(cudaDeviceGetByPCIBusId(&back, bus));
        REQUIRE(back == d && properties.multiProcessorCount > 0 && properties.warpSize == 32);
        for (int e = 0; e < d; ++e) {
            cudaDeviceProp other{};
            CHECK(cudaGetDeviceProperties(&other, e));
            REQUIRE(std::memcmp(&other.uuid, &properties.uuid, sizeof other.uuid) != 0);
        }
    }
    // Copies without peer access enabled.
    CHECK(cudaSetDevice(0));
    int* copy = on_device<int>(n);
    CHECK(cudaMemcpyPeer(copy, 0, data[1], 1, n * sizeof(int)));
    std::printf("peer copy %d %d\n", to_host(copy, n)[0], to_host(copy, n)[n - 1]);
    int can = 0;
    CHECK(cudaDeviceCanAccessPeer(&can, 0, 1));
    std::printf("can access %d\n", can);
    if (can) {
        CHECK(cudaDeviceEnablePeerAccess(1, 0));
        std::printf("enable twice: %s\n", cudaGetErrorName(cudaDeviceEnablePeerAccess(1, 0)));
        cudaGetLastError();
        sum_with<<<n / 128, 128>>>(data[0], data[1], n);
        CHECK(cudaDeviceSynchronize());
        std::printf("peer read %d %d\n", to_host(data[0], n)[0], to_host(data[0], n)[n - 1]);
        CHECK(cudaMemcpyAsync(data[1], data[0], n * sizeof(int), cudaMemcpyDefault));
        CHECK(cudaDeviceSynchronize());
        std::printf("default copy %d\n", to_host(data[1], n)[1]);
        CHECK(cudaDeviceDisablePeerAccess(1));
    }
    cudaPointerAttributes attributes{};
    CHECK(cudaPointerGetAttributes(&attributes, data[1]));
    std::printf("owner %d\n", attributes.device);
    // An event of one device orders a stream of the other.
    cudaEvent_t done;
    cudaStream_t there;
    CHECK(cudaSetDevice(1));
    CHECK(cudaStreamCreate(&there));
    CHECK(cudaEventCreate(&done));
    fill<<<n / 128, 128, 0, there>>>(data[1], n, 7);
    CHECK(cudaEventRecord(done, there));
    CHECK(cudaSetDevice(0));
    CHECK(cudaStreamWaitEvent(nullptr, done, 0));
    CHECK(cudaMemcpyPeerAsync(copy, 0, data[1], 1, n * sizeof(int), nullptr));
    CHECK(cudaStreamSynchronize(nullptr));
    std::printf("ordered %d\n", to_host(copy, n)[0]);
    std::printf("no such device: %s\n", cudaGetErrorName(cudaSetDevice(devices)));
    return 0;
}
