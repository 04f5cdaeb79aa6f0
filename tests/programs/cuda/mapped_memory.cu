// Host memory that kernels reach: pinned, mapped, registered; and what the runtime says of each pointer.
#include <unistd.h>

#include "program.h"

__global__ void increment(int* data, int n, int by) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] += by;
}

long long total(const int* data, int n) {
    long long sum = 0;
    for (int i = 0; i < n; ++i) sum += data[i];
    return sum;
}

int main(int count, char** arguments) {
    start(count, arguments);
    const int n = 3000;
    int* mapped = nullptr;
    CHECK(cudaHostAlloc(&mapped, n * sizeof(int), cudaHostAllocMapped | cudaHostAllocPortable));
    for (int i = 0; i < n; ++i) mapped[i] = i;
    int* view = nullptr;
    CHECK(cudaHostGetDevicePointer(&view, mapped, 0));
    increment<<<(n + 255) / 256, 256>>>(view, n, 10);
    CHECK(cudaDeviceSynchronize());
    std::printf("mapped %lld\n", total(mapped, n));

    int* ordinary = static_cast<int*>(std::aligned_alloc(4096, 4096 * 4));
    for (int i = 0; i < n; ++i) ordinary[i] = 2 * i;
    CHECK(cudaHostRegister(ordinary, 4096 * 4, cudaHostRegisterMapped));
    CHECK(cudaHostGetDevicePointer(&view, ordinary, 0));
    increment<<<(n + 255) / 256, 256>>>(view, n, -1);
    CHECK(cudaDeviceSynchronize());
    std::printf("registered %lld\n", total(ordinary, n));

    int* device = on_device<int>(n);
    CHECK(cudaMemcpyAsync(device, mapped, n * sizeof(int), cudaMemcpyDefault));
    increment<<<(n + 255) / 256, 256>>>(device, n, 5);
    CHECK(cudaMemcpyAsync(mapped, device, n * sizeof(int), cudaMemcpyDefault));
    CHECK(cudaStreamSynchronize(nullptr));
    std::printf("pinned %lld\n", total(mapped, n));

    cudaPointerAttributes attributes{};
    int local = 0;
    const struct {
        const char* name;
        const void* pointer;
    } pointers[] = {{"mapped", mapped}, {"registered", ordinary}, {"device", device}, {"stack", &local}, {"inside", device + 7}};
    for (const auto& one : pointers) {
        CHECK(cudaPointerGetAttributes(&attributes, one.pointer));
        std::printf("%s type %d device pointer %d", one.name, static_cast<int>(attributes.type),
                    attributes.devicePointer != nullptr);
        // What an unregistered pointer's host pointer is, CUDA does not say.
        if (attributes.type != cudaMemoryTypeUnregistered) std::printf(" host pointer %d", attributes.hostPointer != nullptr);
        std::printf("\n");
    }
    unsigned flags = 0;
    CHECK(cudaHostGetFlags(&flags, mapped));
    REQUIRE(flags & cudaHostAllocMapped);
    std::printf("register twice: %s\n", cudaGetErrorName(cudaHostRegister(ordinary, 4096, 0)));
    CHECK(cudaHostUnregister(ordinary));
    std::printf("unregister twice: %s\n", cudaGetErrorName(cudaHostUnregister(ordinary)));
    CHECK(cudaFreeHost(mapped));
    cudaGetLastError();
    return 0;
}
