// The device's math library on many values; the test knows each function's documented error.
#include "program.h"

#define FUNCTIONS(X)                                                                                                  \
    X(sin) X(cos) X(tan) X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(sqrt) X(rsqrt) X(cbrt) X(asin)    \
    X(acos) X(atan) X(sinh) X(cosh) X(tanh) X(asinh) X(atanh) X(erf) X(erfc) X(lgamma) X(tgamma) X(floor) X(ceil)     \
    X(trunc) X(rint) X(round) X(fabs) X(logb) X(j0)

#define KERNELS(name)                                                                            \
    __global__ void single_##name(const float* in, float* out, int n) {                          \
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)  \
            out[i] = name##f(in[i]);                                                             \
    }                                                                                            \
    __global__ void double_##name(const double* in, double* out, int n) {                        \
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)  \
            out[i] = name(in[i]);                                                                \
    }
FUNCTIONS(KERNELS)

__global__ void powers(const float* a, const float* b, float* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[4 * i + 0] = powf(a[i], b[i]);
        out[4 * i + 1] = atan2f(a[i], b[i]);
        out[4 * i + 2] = hypotf(a[i], b[i]);
        out[4 * i + 3] = fmodf(a[i], b[i]);
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto singles = load<float>("singles"), exponents = load<float>("exponents");
    const auto doubles = load<double>("doubles");
    const int n = static_cast<int>(singles.size());
    float *fin = to_device(singles), *fout = on_device<float>(4 * n), *second = to_device(exponents);
    double *din = to_device(doubles), *dout = on_device<double>(n);
#define RUN(name)                                       \
    single_##name<<<4, 128>>>(fin, fout, n);            \
    CHECK(cudaGetLastError());                          \
    save("single_" #name, to_host(fout, n));            \
    double_##name<<<4, 128>>>(din, dout, n);            \
    CHECK(cudaGetLastError());                          \
    save("double_" #name, to_host(dout, n));
    FUNCTIONS(RUN)
    powers<<<(n + 127) / 128, 128>>>(fin, second, fout, n);
    CHECK(cudaGetLastError());
    save("powers", to_host(fout, 4 * n));
    return 0;
}
