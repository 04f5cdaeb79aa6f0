// f16 and bf16 (PTX ISA 9.7.4 "Half Precision Floating-Point Instructions") and their packed forms.
//
// Each is computed in f32 (or double, rounded to odd) and rounded once. f32 has at least 2p+2 bits for both formats, so
// add, sub and f16's mul need no more; a bf16 product may fall below f32's subnormals and goes through double.
#pragma once

#include "engine/arithmetic/rounding.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

// Exact. NaNs keep sign and payload; callers make results canonical.
SOFTGPU_LANE float widen(f16 value) {
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
    const uint32_t magnitude = value.bits & 0x7fffu;
    const float scaled = float_of(magnitude << 13) * 0x1p112f;  // re-biases the exponent, normalises subnormals
    const uint32_t finite = to_bits(scaled);
    const uint32_t special = magnitude << 13 | 0x7f800000u;
    return float_of((magnitude >= 0x7c00u ? special : finite) | sign);
}
SOFTGPU_LANE float widen(bf16 value) {
    return float_of(static_cast<uint32_t>(value.bits) << 16);
}
SOFTGPU_LANE float widen(float value) {
    return value;
}
SOFTGPU_LANE double widen(double value) {
    return value;
}

namespace detail {

SOFTGPU_LANE uint16_t nearest_f16(float value) {
    const uint32_t bits = to_bits(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    const uint32_t subnormal = to_bits(float_of(magnitude) + 0.5f) - 0x3f000000u;  // ulp(0.5) is f16's smallest step
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x47800000u ? 0x7c00u : result;
    result |= bits >> 16 & 0x8000u;
    return static_cast<uint16_t>(magnitude > 0x7f800000u ? canonical_nan16 : result);
}

SOFTGPU_LANE uint16_t nearest_bf16(float value) {
    const uint32_t bits = to_bits(value);
    const uint32_t result = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? canonical_nan16 : result);
}

}  // namespace detail

// f32 to f16 or bf16 with one rounding; NaN becomes canonical, overflow an infinity (or the largest finite number,
// as `R` asks).
template <typename Half, Rounding R = Rounding::rn>
SOFTGPU_LANE Half narrow(float value) {
    Half half;
    if constexpr (std::is_same_v<Half, f16>) {
        half.bits = detail::nearest_f16(value);
    } else {
        half.bits = detail::nearest_bf16(value);
    }
    if constexpr (R == Rounding::rn) return half;
    const float back = widen(half);
    return Half{step<R>(half.bits, back > value, back < value, (half.bits & 0x8000u) != 0)};
}

// The same from a value that is exact, or rounded to odd, in double.
template <typename Half, Rounding R = Rounding::rn>
SOFTGPU_LANE Half narrow(double value) {
    return narrow<Half, R>(to_float_odd(value));
}

namespace detail {

template <bool Ftz, bool Sat, bool Relu, typename Half>
SOFTGPU_LANE Half finish_half(Half result) {
    result = flush<Ftz>(canonical(result));
    if constexpr (Relu) {
        // Negative results become +0, NaN stays canonical (its sign is clear).
        result.bits = static_cast<uint16_t>((result.bits & 0x8000u) != 0 ? 0 : result.bits);
    }
    if constexpr (Sat) {
        constexpr uint16_t one = std::is_same_v<Half, f16> ? 0x3c00 : 0x3f80;
        const bool negative = (result.bits & 0x8000u) != 0;
        const uint16_t above = is_nan(result) || negative ? uint16_t{0} : result.bits;
        result.bits = above < one ? above : one;
    }
    return result;
}

template <typename T>
inline constexpr bool is_half = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;
template <typename T>
inline constexpr bool is_half_pair = std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>;

}  // namespace detail

template <typename T>
concept Half = detail::is_half<T>;
template <typename T>
concept HalfPair = detail::is_half_pair<T>;

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, Half T>
SOFTGPU_LANE T add(T a, T b) {
    const float sum = widen(flush<Ftz>(a)) + widen(flush<Ftz>(b));
    return detail::finish_half<Ftz, Sat, false>(narrow<T>(sum));
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, Half T>
SOFTGPU_LANE T sub(T a, T b) {
    const float difference = widen(flush<Ftz>(a)) - widen(flush<Ftz>(b));
    return detail::finish_half<Ftz, Sat, false>(narrow<T>(difference));
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, Half T>
SOFTGPU_LANE T mul(T a, T b) {
    if constexpr (std::is_same_v<T, f16>) {
        return detail::finish_half<Ftz, Sat, false>(narrow<T>(widen(flush<Ftz>(a)) * widen(flush<Ftz>(b))));
    } else {
        const double product = static_cast<double>(widen(flush<Ftz>(a))) * static_cast<double>(widen(flush<Ftz>(b)));
        return detail::finish_half<Ftz, Sat, false>(narrow<T>(product));
    }
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, bool Relu = false, Half T>
SOFTGPU_LANE T fma(T a, T b, T c) {
    const double product = static_cast<double>(widen(flush<Ftz>(a))) * static_cast<double>(widen(flush<Ftz>(b)));
    const double sum = add_to_odd(product, static_cast<double>(widen(flush<Ftz>(c))));
    return detail::finish_half<Ftz, Sat, Relu>(narrow<T>(sum));
}

// fma.oob: 0 when a or b is the out-of-bounds NaN 0xffff (PTX ISA 9.7.4 "fma").
template <Rounding R = Rounding::rn, bool Relu = false, Half T>
SOFTGPU_LANE T fma_oob(T a, T b, T c) {
    const T result = fma<R, false, false, Relu>(a, b, c);
    return a.bits == 0xffffu || b.bits == 0xffffu ? T{0} : result;
}

template <bool Ftz = false, Half T>
SOFTGPU_LANE T abs(T a) {
    return T{static_cast<uint16_t>(flush<Ftz>(a).bits & 0x7fffu)};
}

template <bool Ftz = false, Half T>
SOFTGPU_LANE T neg(T a) {
    return T{static_cast<uint16_t>(flush<Ftz>(a).bits ^ 0x8000u)};
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, HalfPair T>
SOFTGPU_LANE T add(T a, T b) {
    return pack(add<R, Ftz, Sat>(low(a), low(b)), add<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, HalfPair T>
SOFTGPU_LANE T sub(T a, T b) {
    return pack(sub<R, Ftz, Sat>(low(a), low(b)), sub<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, HalfPair T>
SOFTGPU_LANE T mul(T a, T b) {
    return pack(mul<R, Ftz, Sat>(low(a), low(b)), mul<R, Ftz, Sat>(high(a), high(b)));
}
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, bool Relu = false, HalfPair T>
SOFTGPU_LANE T fma(T a, T b, T c) {
    return pack(fma<R, Ftz, Sat, Relu>(low(a), low(b), low(c)), fma<R, Ftz, Sat, Relu>(high(a), high(b), high(c)));
}
template <Rounding R = Rounding::rn, bool Relu = false, HalfPair T>
SOFTGPU_LANE T fma_oob(T a, T b, T c) {
    return pack(fma_oob<R, Relu>(low(a), low(b), low(c)), fma_oob<R, Relu>(high(a), high(b), high(c)));
}
template <bool Ftz = false, HalfPair T>
SOFTGPU_LANE T abs(T a) {
    return pack(abs<Ftz>(low(a)), abs<Ftz>(high(a)));
}
template <bool Ftz = false, HalfPair T>
SOFTGPU_LANE T neg(T a) {
    return pack(neg<Ftz>(low(a)), neg<Ftz>(high(a)));
}

}  // namespace softgpu::arithmetic
