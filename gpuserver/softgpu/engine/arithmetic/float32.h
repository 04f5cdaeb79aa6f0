// f32 arithmetic (PTX ISA 9.7.3) and its packed form f32x2.
#pragma once

#include <cmath>

#include "engine/arithmetic/rounding.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE float add(float a, float b) {
    a = flush<Ftz>(a), b = flush<Ftz>(b);
    if constexpr (R == Rounding::rn) return finish<Ftz, Sat>(a + b);
    const bool negative = ((to_bits(a) | to_bits(b)) >> 31) != 0;
    return finish<Ftz, Sat>(to_float<R>(zero_sum<R>(add_to_odd(a, b), negative)));
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE float sub(float a, float b) {
    return add<R, Ftz, Sat>(a, -b);
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE float mul(float a, float b) {
    a = flush<Ftz>(a), b = flush<Ftz>(b);
    if constexpr (R == Rounding::rn) return finish<Ftz, Sat>(a * b);
    return finish<Ftz, Sat>(to_float<R>(static_cast<double>(a) * static_cast<double>(b)));
}

// One rounding. Without the FMA instruction the product is exact in double and the sum rounded to odd, which
// vectorises where a call of fmaf would not.
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE float fma(float a, float b, float c) {
    a = flush<Ftz>(a), b = flush<Ftz>(b), c = flush<Ftz>(c);
#ifdef __FMA__
    if constexpr (R == Rounding::rn) return finish<Ftz, Sat>(__builtin_fmaf(a, b, c));
#endif
    const double sum = add_to_odd(static_cast<double>(a) * static_cast<double>(b), static_cast<double>(c));
    const bool negative = (((to_bits(a) ^ to_bits(b)) | to_bits(c)) >> 31) != 0;
    return finish<Ftz, Sat>(to_float<R>(zero_sum<R>(sum, negative)));
}

template <Rounding R>
[[gnu::noinline]] static float divide_directed(float a, float b) {
    const RoundingScope scope(R);
    return settle(settle(a) / settle(b));
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE float div(float a, float b) {
    a = flush<Ftz>(a), b = flush<Ftz>(b);
    if constexpr (R == Rounding::rn) return finish<Ftz, false>(a / b);
    return finish<Ftz, false>(divide_directed<R>(a, b));
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE float rcp(float a) {
    return div<R, Ftz>(1.0f, a);
}

template <Rounding R>
[[gnu::noinline]] static float square_root_directed(float a) {
    const RoundingScope scope(R);
    return settle(std::sqrt(settle(a)));
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE float sqrt(float a) {
    a = flush<Ftz>(a);
    if constexpr (R == Rounding::rn) return finish<Ftz, false>(__builtin_sqrtf(a));
    return finish<Ftz, false>(square_root_directed<R>(a));
}

// div.full: 2 ulp over the full range; the correctly rounded quotient is within that.
template <bool Ftz = false>
SOFTGPU_LANE float div_full(float a, float b) {
    return div<Rounding::rn, Ftz>(a, b);
}

// div.approx: 2 ulp for |b| in [2^-126, 2^126]; above that, 0, or NaN when a is infinite (PTX ISA 9.7.3, "div").
template <bool Ftz = false>
SOFTGPU_LANE float div_approx(float a, float b) {
    const float quotient = div<Rounding::rn, Ftz>(a, b);
    const uint32_t magnitude = to_bits(b) & 0x7fffffffu;
    const bool huge = magnitude > 0x7e800000u && magnitude < 0x7f800000u;
    const uint32_t sign = (to_bits(a) ^ to_bits(b)) & 0x80000000u;
    const float instead = (to_bits(a) & 0x7fffffffu) >= 0x7f800000u ? float_of(canonical_nan32) : float_of(sign);
    return huge ? instead : quotient;
}

template <bool Ftz = false>
SOFTGPU_LANE float abs(float a) {
    return float_of(to_bits(flush<Ftz>(a)) & 0x7fffffffu);
}

template <bool Ftz = false>
SOFTGPU_LANE float neg(float a) {
    return float_of(to_bits(flush<Ftz>(a)) ^ 0x80000000u);
}

// f32x2: each half on its own.
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE f32x2 add(f32x2 a, f32x2 b) {
    return pack(add<R, Ftz, Sat>(low(a), low(b)), add<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE f32x2 sub(f32x2 a, f32x2 b) {
    return pack(sub<R, Ftz, Sat>(low(a), low(b)), sub<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE f32x2 mul(f32x2 a, f32x2 b) {
    return pack(mul<R, Ftz, Sat>(low(a), low(b)), mul<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE f32x2 fma(f32x2 a, f32x2 b, f32x2 c) {
    return pack(fma<R, Ftz, Sat>(low(a), low(b), low(c)), fma<R, Ftz, Sat>(high(a), high(b), high(c)));
}

}  // namespace softgpu::arithmetic
