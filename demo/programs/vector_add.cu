// Adds two vectors on each GPU that the program sees, and prints a line per GPU. Plain CUDA: it knows nothing of gpuferry.
#include <cstdio>
#include <vector>

__global__ void add(const float* a, const float* b, float* sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + b[i];
}

#define CHECK(call)                                                                   \
    do {                                                                              \
        cudaError_t error = (call);                                                   \
        if (error != cudaSuccess) {                                                   \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));       \
            return 1;                                                                 \
        }                                                                             \
    } while (0)

int main() {
    const int n = 1 << 20;
    std::vector<float> a(n), b(n), sum(n);
    for (int i = 0; i < n; i++) {
        a[i] = i * 0.5f;
        b[i] = n - i;
    }
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    for (int device = 0; device < devices; device++) {
        CHECK(cudaSetDevice(device));
        cudaDeviceProp properties;
        CHECK(cudaGetDeviceProperties(&properties, device));
        float *da, *db, *dsum;
        CHECK(cudaMalloc(&da, n * sizeof(float)));
        CHECK(cudaMalloc(&db, n * sizeof(float)));
        CHECK(cudaMalloc(&dsum, n * sizeof(float)));
        CHECK(cudaMemcpy(da, a.data(), n * sizeof(float), cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(db, b.data(), n * sizeof(float), cudaMemcpyHostToDevice));
        add<<<(n + 255) / 256, 256>>>(da, db, dsum, n);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpy(sum.data(), dsum, n * sizeof(float), cudaMemcpyDeviceToHost));
        int wrong = 0;
        for (int i = 0; i < n; i++) wrong += sum[i] != a[i] + b[i];
        std::printf("device %d: %s, %zu MiB: %d of %d sums right\n", device, properties.name,
                    properties.totalGlobalMem >> 20, n - wrong, n);
        if (wrong) return 1;
        CHECK(cudaFree(da));
        CHECK(cudaFree(db));
        CHECK(cudaFree(dsum));
    }
    return devices ? 0 : 1;
}
