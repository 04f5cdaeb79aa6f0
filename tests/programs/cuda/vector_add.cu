// c = a + b with a grid that does not divide the length.
#include "program.h"

__global__ void add(const float* a, const float* b, float* c, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto a = load<float>("a"), b = load<float>("b");
    const int n = static_cast<int>(a.size());
    float *da = to_device(a), *db = to_device(b), *dc = on_device<float>(n);
    add<<<(n + 255) / 256, 256>>>(da, db, dc, n);
    CHECK(cudaGetLastError());
    save("c", to_host(dc, n));
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
    std::printf("added %d\n", n);
    return 0;
}
