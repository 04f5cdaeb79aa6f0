// Arithmetic as CUDA C++ programs use it: libdevice, half, bfloat16, integers, atomics of all types.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>

#define UNARY(name, T, expression) \
    extern "C" __global__ void name(const T* in, T* out, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x; \
        if (i < n) { T x = in[i]; out[i] = expression; } \
    }
UNARY(f_sin, float, sinf(x)) UNARY(f_cos, float, cosf(x)) UNARY(f_tan, float, tanf(x)) UNARY(f_exp, float, expf(x))
UNARY(f_log, float, logf(x)) UNARY(f_tanh, float, tanhf(x)) UNARY(f_erf, float, erff(x)) UNARY(f_cbrt, float, cbrtf(x))
UNARY(f_asin, float, asinf(x)) UNARY(f_atan, float, atanf(x)) UNARY(f_lgamma, float, lgammaf(x)) UNARY(f_sqrt, float, sqrtf(x))
UNARY(f_rsqrt, float, rsqrtf(x)) UNARY(f_floor, float, floorf(x)) UNARY(f_rint, float, rintf(x)) UNARY(f_pow, float, powf(fabsf(x), 1.7f))
UNARY(f_fmod, float, fmodf(x, 1.3f)) UNARY(f_round, float, roundf(x)) UNARY(f_fast, float, __sinf(x) + __expf(x * 0.01f))
UNARY(d_sin, double, sin(x)) UNARY(d_cos, double, cos(x)) UNARY(d_tan, double, tan(x)) UNARY(d_exp, double, exp(x))
UNARY(d_log, double, log(x)) UNARY(d_tanh, double, tanh(x)) UNARY(d_erf, double, erf(x)) UNARY(d_cbrt, double, cbrt(x))
UNARY(d_asin, double, asin(x)) UNARY(d_atan, double, atan(x)) UNARY(d_lgamma, double, lgamma(x)) UNARY(d_sqrt, double, sqrt(x))
UNARY(d_rsqrt, double, rsqrt(x)) UNARY(d_pow, double, pow(fabs(x), 1.7)) UNARY(d_fmod, double, fmod(x, 1.3)) UNARY(d_inverse, double, 1 / x)
UNARY(f_inverse, float, 1 / x)

extern "C" __global__ void integers(const long long* a, const long long* b, long long* out) {
    int i = threadIdx.x;
    long long x = a[i], y = b[i], *o = out + i * 10;
    unsigned long long ux = x, uy = y;
    o[0] = x / y;
    o[1] = x % y;
    o[2] = ux / uy;
    o[3] = ux % uy;
    o[4] = __mul64hi(x, y);
    o[5] = __umul64hi(ux, uy);
    o[6] = __clzll(x) * 100 + __popcll(x);
    o[7] = __brevll(ux);
    o[8] = (int)x / ((int)y | 1);
    o[9] = x >> (y & 63);
}
extern "C" __global__ void halves(const __half* a, const __half* b, __half* out, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    out[i] = __hfma(a[i], b[i], __hadd(a[i], b[i]));
    out[n + i] = __hdiv(a[i], b[i]);
    out[2 * n + i] = hsqrt(__habs(a[i]));
    __half2 p = __halves2half2(a[i], b[i]);
    p = __hmul2(p, p);
    out[3 * n + i] = __hsub(__low2half(p), __high2half(p));
    out[4 * n + i] = __hmax(a[i], b[i]);
}
extern "C" __global__ void bfloats(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* out, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    out[i] = __hfma(a[i], b[i], a[i]);
    out[n + i] = __float2bfloat16(__bfloat162float(a[i]) * 3.0f);
}
extern "C" __global__ void atomics(int* i32, unsigned* u32, unsigned long long* u64, float* f32, double* f64, __half2* h2) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&i32[0], t);
    atomicSub(&i32[1], t);
    atomicMin(&i32[2], -t);
    atomicMax(&i32[3], t);
    atomicExch(&i32[4], 5);
    atomicCAS(&i32[5], 0, 9);
    atomicInc(&u32[0], 99);
    atomicDec(&u32[1], 49);
    atomicAnd(&u32[2], ~(1u << (t % 32)));
    atomicOr(&u32[3], 1u << (t % 31));
    atomicXor(&u32[4], t);
    atomicAdd(&u64[0], 1ull << 33);
    atomicMax(&u64[1], (unsigned long long)t << 40);
    atomicMin((long long*)&u64[2], -(long long)t);
    atomicCAS(&u64[3], 0ull, 77ull);
    atomicAdd(f32, 0.5f);
    atomicAdd(f64, 0.25);
    atomicAdd(h2, __floats2half2_rn(1.0f, 0.5f));
}
extern "C" __global__ void async_copies(const float4* in, float4* out) {
    __shared__ float4 stage[2][64];
    int i = threadIdx.x;
    __pipeline_memcpy_async(&stage[0][i], &in[i], 16);
    __pipeline_commit();
    __pipeline_memcpy_async(&stage[1][i], &in[64 + i], 16, 8);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    out[i] = stage[0][63 - i];
    out[64 + i] = stage[1][i];
}
extern "C" __global__ void vectors(const double2* a, const uchar4* b, const short2* c, double2* oa, uchar4* ob, short2* oc) {
    int i = threadIdx.x;
    double2 x = a[i];
    oa[i] = make_double2(x.y, x.x);
    uchar4 y = b[i];
    ob[i] = make_uchar4(y.w, y.z, y.y, y.x);
    short2 z = c[i];
    oc[i] = make_short2(z.y, -z.x);
}
__device__ __noinline__ unsigned __int128 square(unsigned __int128 x) { return x * x + (x >> 3); }
extern "C" __global__ void wide(const unsigned long long* in, unsigned long long* out) {
    int i = threadIdx.x;
    unsigned __int128 x = in[i];
    x = square(x);
    out[2 * i] = (unsigned long long)x;
    out[2 * i + 1] = (unsigned long long)(x >> 64);
}
