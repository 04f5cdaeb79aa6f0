// The .approx functions (PTX ISA 9.7.3, 9.7.4). Each is computed in double to about 1e-11 and rounded once, far inside
// the errors that PTX documents, with the special cases of its tables. Branch-free, so that loops over lanes vectorise.
#pragma once

#include "engine/arithmetic/float32.h"
#include "engine/arithmetic/half.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

namespace detail {

inline constexpr double nearest_integer_bias = 0x1.8p52;  // x + bias - bias rounds x to an integer

// 2^x for |x| <= 1000.
SOFTGPU_LANE double exp2_double(double x) {
    const double shifted = x + nearest_integer_bias;
    const double fraction = (x - (shifted - nearest_integer_bias)) * 0x1.62e42fefa39efp-1;  // ln 2
    double p = 1.0 / 3628800;
    p = p * fraction + 1.0 / 362880;
    p = p * fraction + 1.0 / 40320;
    p = p * fraction + 1.0 / 5040;
    p = p * fraction + 1.0 / 720;
    p = p * fraction + 1.0 / 120;
    p = p * fraction + 1.0 / 24;
    p = p * fraction + 1.0 / 6;
    p = p * fraction + 0.5;
    p = p * fraction + 1.0;
    p = p * fraction + 1.0;
    const double scale = double_of((to_bits(shifted) + 1023) << 52);
    return p * scale;
}

SOFTGPU_LANE double clamp(double x, double least, double most) {
    return x < least ? least : (x > most ? most : x);
}

// log2 of a positive, finite, normal double.
SOFTGPU_LANE double log2_double(double x) {
    constexpr uint64_t root_half = 0x3fe6a09e667f3bcdu;  // sqrt(1/2)
    const uint64_t bits = to_bits(x);
    const uint64_t biased = (bits - root_half + (uint64_t{1024} << 52)) >> 52;
    const double mantissa = double_of(bits - ((biased - 1024) << 52));                    // in [sqrt(1/2), sqrt(2))
    const double exponent = double_of(0x4330000000000000u | biased) - (0x1p52 + 1024.0);  // biased - 1024
    const double s = (mantissa - 1) / (mantissa + 1);
    const double z = s * s;
    double p = 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    p = p * z + 1.0;
    return exponent + p * s * 0x1.71547652b82fep1;  // 2 / ln 2
}

// sin(x + quarter * pi/2). Past |x| of about 2^30 the reduced argument is no longer accurate (PTX promises nothing
// there), but the result stays within [-1, 1].
SOFTGPU_LANE double sine_double(double x, uint64_t quarter) {
    const double shifted = x * 0x1.45f306dc9c883p-1 + nearest_integer_bias;  // 2 / pi
    const double turns = shifted - nearest_integer_bias;
    constexpr double half_pi_upper = 0x1.921fb544p0;  // 33 bits, products with `turns` are exact
    constexpr double half_pi_lower = 0x1.0b4611a626331p-34;
    const double reduced = (x - turns * half_pi_upper) - turns * half_pi_lower;
    const double r = clamp(reduced, -0.7853981633974484, 0.7853981633974484);
    const uint64_t quadrant = to_bits(shifted) + quarter;
    const double z = r * r;
    double s = -1.0 / 39916800;
    s = s * z + 1.0 / 362880;
    s = s * z - 1.0 / 5040;
    s = s * z + 1.0 / 120;
    s = s * z - 1.0 / 6;
    s = s * z + 1.0;
    s = s * r;
    double c = 1.0 / 479001600;
    c = c * z - 1.0 / 3628800;
    c = c * z + 1.0 / 40320;
    c = c * z - 1.0 / 720;
    c = c * z + 1.0 / 24;
    c = c * z - 0.5;
    c = c * z + 1.0;
    const double value = (quadrant & 1) != 0 ? c : s;
    return double_of(to_bits(value) ^ (quadrant & 2) << 62);
}

SOFTGPU_LANE double tanh_double(double x) {
    const double magnitude = clamp(double_of(to_bits(x) & 0x7fffffffffffffffu), 0, 32);
    const double square = magnitude * magnitude;
    const double near_zero = magnitude * (1 + square * (-1.0 / 3 + square * (2.0 / 15)));
    const double power = exp2_double(magnitude * 0x1.71547652b82fep1);  // e^(2 magnitude)
    const double far = 1 - 2 / (power + 1);
    const double result = magnitude < 0x1p-6 ? near_zero : far;
    return double_of(to_bits(result) | (to_bits(x) & 0x8000000000000000u));
}

}  // namespace detail

// sin, cos: maximum absolute error 2^-20.5 in [-2pi, 2pi]; +-inf gives NaN.
template <bool Ftz = false>
SOFTGPU_LANE float sin_approx(float a) {
    return finish<Ftz, false>(static_cast<float>(detail::sine_double(flush<Ftz>(a), 0)));
}
template <bool Ftz = false>
SOFTGPU_LANE float cos_approx(float a) {
    return finish<Ftz, false>(static_cast<float>(detail::sine_double(flush<Ftz>(a), 1)));
}

// ex2: 2 ulp (relative 2^-22); exact for integers.
template <bool Ftz = false>
SOFTGPU_LANE float ex2_approx(float a) {
    const double x = detail::clamp(static_cast<double>(flush<Ftz>(a)), -300, 300);
    const float result = static_cast<float>(detail::exp2_double(x));
    return finish<Ftz, false>(is_nan(a) ? a : result);
}

// lg2: absolute error 2^-22 in [0.5, 2], relative 2^-22 elsewhere; exact for powers of two.
template <bool Ftz = false>
SOFTGPU_LANE float lg2_approx(float a) {
    a = flush<Ftz>(a);
    const bool usable = a > 0 && a < std::numeric_limits<float>::infinity();
    const float logarithm = static_cast<float>(detail::log2_double(usable ? static_cast<double>(a) : 1.0));
    const float special = a == 0 ? -std::numeric_limits<float>::infinity() : (a > 0 ? a : float_of(canonical_nan32));
    return finish<Ftz, false>(usable ? logarithm : special);
}

// tanh: relative error 2^-11. No .ftz: subnormals are kept.
SOFTGPU_LANE float tanh_approx(float a) {
    const float result = static_cast<float>(detail::tanh_double(static_cast<double>(a)));
    return canonical(is_nan(a) ? a : result);
}

// rcp: 1 ulp; rsqrt: relative error 2^-22.9; sqrt: relative error 2^-23.
template <bool Ftz = false>
SOFTGPU_LANE float rcp_approx(float a) {
    return rcp<Rounding::rn, Ftz>(a);
}
template <bool Ftz = false>
SOFTGPU_LANE float rsqrt_approx(float a) {
    return finish<Ftz, false>(static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(flush<Ftz>(a)))));
}
template <bool Ftz = false>
SOFTGPU_LANE float sqrt_approx(float a) {
    return sqrt<Rounding::rn, Ftz>(a);
}

namespace detail {

// rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64 read and write the upper 32 bits only (PTX ISA: "1.11.20 format").
SOFTGPU_LANE double upper_word(double a) {
    const uint64_t bits = to_bits(a) & 0xffffffff00000000u;
    const bool subnormal = (bits & 0x7ff0000000000000u) == 0;
    return double_of(subnormal ? bits & 0x8000000000000000u : bits);
}
SOFTGPU_LANE double rounded_upper_word(double result, bool nan) {
    const uint64_t rounded = (to_bits(result) + 0x7fffffffu + (to_bits(result) >> 32 & 1)) & 0xffffffff00000000u;
    const double flushed = upper_word(double_of(rounded));
    return nan ? double_of(0x7fffffff00000000u) : flushed;
}

}  // namespace detail

SOFTGPU_LANE double rcp_approx_f64(double a) {
    return detail::rounded_upper_word(1 / detail::upper_word(a), is_nan(a));
}
SOFTGPU_LANE double rsqrt_approx_f64(double a) {
    const double x = detail::upper_word(a);
    return detail::rounded_upper_word(1 / __builtin_sqrt(x), is_nan(a) || x < 0);
}

// ex2.approx{.ftz}.{f16,bf16} (2^-9.9, 2^-7 relative) and tanh.approx (2^-10.987, 2^-8), single and packed.
template <bool Ftz = false, Half T>
SOFTGPU_LANE T ex2_approx(T a) {
    const double x = detail::clamp(static_cast<double>(widen(flush<Ftz>(a))), -300, 300);
    const T result = narrow<T>(detail::exp2_double(x));
    return detail::finish_half<Ftz, false, false>(is_nan(a) ? a : result);
}
template <Half T>
SOFTGPU_LANE T tanh_approx(T a) {
    const T result = narrow<T>(detail::tanh_double(static_cast<double>(widen(a))));
    return canonical(is_nan(a) ? a : result);
}
template <bool Ftz = false, HalfPair T>
SOFTGPU_LANE T ex2_approx(T a) {
    return pack(ex2_approx<Ftz>(low(a)), ex2_approx<Ftz>(high(a)));
}
template <HalfPair T>
SOFTGPU_LANE T tanh_approx(T a) {
    return pack(tanh_approx(low(a)), tanh_approx(high(a)));
}

}  // namespace softgpu::arithmetic
