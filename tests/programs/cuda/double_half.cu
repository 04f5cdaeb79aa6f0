// double, half and bfloat16 arithmetic: operators, intrinsics, packed forms, conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "program.h"

__global__ void doubles(const double* a, const double* b, double* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[8 * i + 0] = a[i] + b[i];
    out[8 * i + 1] = a[i] * b[i];
    out[8 * i + 2] = a[i] / b[i];
    out[8 * i + 3] = sqrt(fabs(a[i]));
    out[8 * i + 4] = fma(a[i], b[i], 1.0);
    out[8 * i + 5] = __dadd_rz(a[i], b[i]);
    out[8 * i + 6] = __dmul_ru(a[i], b[i]);
    out[8 * i + 7] = fmod(a[i], b[i]);
}

__global__ void halves(const __half* a, const __half* b, __half* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[6 * i + 0] = a[i] + b[i];
    out[6 * i + 1] = a[i] * b[i];
    out[6 * i + 2] = __hfma(a[i], b[i], __float2half(0.5f));
    out[6 * i + 3] = __hmin(a[i], b[i]);
    out[6 * i + 4] = __float2half_rz(__half2float(a[i]) * 1.001f);
    out[6 * i + 5] = __hadd_sat(a[i], b[i]);
}

__global__ void pairs(const __half2* a, const __half2* b, __half2* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = __hfma2(a[i], b[i], __hadd2(a[i], __float2half2_rn(1.0f)));
}

__global__ void brains(const float* a, const float* b, __nv_bfloat16* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const __nv_bfloat16 x = __float2bfloat16(a[i]), y = __float2bfloat16(b[i]);
    out[4 * i + 0] = x;
    out[4 * i + 1] = x + y;
    out[4 * i + 2] = x * y;
    out[4 * i + 3] = __hfma(x, y, x);
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto da = load<double>("da"), db = load<double>("db");
    int n = static_cast<int>(da.size());
    double* dout = on_device<double>(8 * n);
    doubles<<<(n + 127) / 128, 128>>>(to_device(da), to_device(db), dout, n);
    CHECK(cudaGetLastError());
    save("dout", to_host(dout, 8 * n));

    const auto ha = load<__half>("ha"), hb = load<__half>("hb");
    n = static_cast<int>(ha.size());
    __half *a = to_device(ha), *b = to_device(hb), *hout = on_device<__half>(6 * n), *pout = on_device<__half>(n);
    halves<<<(n + 127) / 128, 128>>>(a, b, hout, n);
    pairs<<<(n / 2 + 127) / 128, 128>>>(reinterpret_cast<__half2*>(a), reinterpret_cast<__half2*>(b),
                                        reinterpret_cast<__half2*>(pout), n / 2);
    CHECK(cudaGetLastError());
    save("hout", to_host(hout, 6 * n));
    save("pout", to_host(pout, n));

    const auto fa = load<float>("fa"), fb = load<float>("fb");
    n = static_cast<int>(fa.size());
    __nv_bfloat16* bout = on_device<__nv_bfloat16>(4 * n);
    brains<<<(n + 127) / 128, 128>>>(to_device(fa), to_device(fb), bout, n);
    CHECK(cudaGetLastError());
    save("bout", to_host(bout, 4 * n));
    return 0;
}
