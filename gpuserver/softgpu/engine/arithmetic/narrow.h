// cvt to and from the formats that only conversions know (PTX ISA 9.7.9 "cvt"): tf32; f16/bf16 with .relu and
// .satfinite, single and packed; the 8, 6 and 4-bit floats and ue8m0.
#pragma once

#include "engine/arithmetic/half.h"
#include "engine/arithmetic/rounding.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

// tf32 in an f32 register: 10 bits of mantissa, the low 13 bits zero. NaN is canonical (0x7fffffff).
template <Rounding R = Rounding::rna, bool Relu = false, bool Satfinite = false>
SOFTGPU_LANE uint32_t cvt_tf32(float a) {
    const uint32_t bits = to_bits(a);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t bias = R == Rounding::rz ? 0 : (R == Rounding::rna ? 0x1000u : 0xfffu + (magnitude >> 13 & 1));
    uint32_t rounded = magnitude >= 0x7f800000u ? magnitude : (magnitude + bias) & ~0x1fffu;
    if constexpr (Satfinite) rounded = rounded >= 0x7f800000u ? 0x7f7fe000u : rounded;
    uint32_t result = rounded | (bits & 0x80000000u);
    if constexpr (Relu) result = (bits >> 31) != 0 ? 0 : result;
    return magnitude > 0x7f800000u ? canonical_nan32 : result;
}

// cvt.{rn,rz}{.relu}{.satfinite}.{f16,bf16}.f32
template <typename T, Rounding R = Rounding::rn, bool Relu = false, bool Satfinite = false>
SOFTGPU_LANE T cvt_half(float a) {
    constexpr uint16_t infinity = std::is_same_v<T, f16> ? 0x7c00 : 0x7f80;
    T result = narrow<T, R>(a);
    if constexpr (Satfinite) {
        const bool infinite = (result.bits & 0x7fff) == infinity;
        result.bits = static_cast<uint16_t>(infinite ? result.bits - 1 : result.bits);
    }
    return detail::finish_half<false, false, Relu>(result);
}

// cvt.{rn,rz}...{f16x2,bf16x2}.f32 d, a, b: a goes to the upper half.
template <typename Pair, Rounding R = Rounding::rn, bool Relu = false, bool Satfinite = false>
SOFTGPU_LANE Pair cvt_half_pair(float a, float b) {
    using T = std::conditional_t<std::is_same_v<Pair, f16x2>, f16, bf16>;
    return pack(cvt_half<T, R, Relu, Satfinite>(b), cvt_half<T, R, Relu, Satfinite>(a));
}

// A float of at most 8 bits with a sign: `largest` is its largest finite code; `nan` the code of NaN, or `largest` for
// the formats that have none (they turn NaN into the largest number).
template <int ExponentBits, int MantissaBits, uint8_t Largest, uint8_t Nan, bool HasInfinity>
struct MiniFloat {
    static constexpr int exponent_bits = ExponentBits;
    static constexpr int mantissa_bits = MantissaBits;
    static constexpr int bias = (1 << (ExponentBits - 1)) - 1;
    static constexpr int width = 1 + ExponentBits + MantissaBits;
    static constexpr uint8_t largest = Largest;
    static constexpr uint8_t nan = Nan;
    static constexpr bool has_nan = Nan != Largest;
    static constexpr bool has_infinity = HasInfinity;
    static constexpr uint32_t sign_bit = 1u << (width - 1);
};
using e4m3 = MiniFloat<4, 3, 0x7e, 0x7f, false>;
using e5m2 = MiniFloat<5, 2, 0x7b, 0x7f, true>;
using e2m3 = MiniFloat<2, 3, 0x1f, 0x1f, false>;
using e3m2 = MiniFloat<3, 2, 0x1f, 0x1f, false>;
using e2m1 = MiniFloat<2, 1, 0x07, 0x07, false>;

// cvt.rn.satfinite{.relu}.<mini>.f32 of one value, in the low bits.
template <typename Format, bool Relu = false>
SOFTGPU_LANE uint32_t encode(float a) {
    const uint32_t bits = to_bits(a);
    const uint32_t magnitude = bits & 0x7fffffffu;
    // The step between representable numbers at a is 2^(exponent - mantissa bits).
    int exponent = static_cast<int>(magnitude >> 23) - 127;
    exponent = exponent < 1 - Format::bias ? 1 - Format::bias : exponent;
    const double scale = double_of(static_cast<uint64_t>(1023 + Format::mantissa_bits - exponent) << 52);
    const double steps = static_cast<double>(float_of(magnitude)) * scale;
    const double rounded = (steps + 0x1p52) - 0x1p52;
    const bool overflows = exponent > Format::bias + 1 || magnitude >= 0x7f800000u;
    uint32_t code = static_cast<uint32_t>(overflows ? 0.0 : rounded) +
                    (static_cast<uint32_t>(exponent + Format::bias - 1) << Format::mantissa_bits);
    code = overflows || code > Format::largest ? Format::largest : code;
    code |= (bits >> 31) != 0 ? Format::sign_bit : 0;
    if constexpr (Relu) code = (bits >> 31) != 0 ? 0 : code;
    return magnitude > 0x7f800000u ? Format::nan : code;
}

// Exact. Relu applies to cvt.rn.relu.f16x2.<mini>x2.
template <typename Format, bool Relu = false>
SOFTGPU_LANE f16 decode(uint32_t code) {
    const uint32_t magnitude = code & (Format::sign_bit - 1);
    const bool negative = (code & Format::sign_bit) != 0;
    const uint32_t aligned = magnitude << (23 - Format::mantissa_bits);
    const float scale = float_of(static_cast<uint32_t>(127 + 127 - Format::bias) << 23);
    const float value = float_of(aligned) * scale;
    uint32_t half = detail::nearest_f16(value);
    if constexpr (Format::has_infinity) half = magnitude == Format::largest + 1u ? 0x7c00u : half;
    half |= negative ? 0x8000u : 0;
    if constexpr (Relu) half = negative ? 0 : half;
    if constexpr (Format::has_nan)
        half = magnitude > Format::largest + (Format::has_infinity ? 1u : 0u) ? 0x7fffu : half;
    return f16{static_cast<uint16_t>(half)};
}

// Two values in a register: bytes for the 8 and 6-bit formats, nibbles of one byte for e2m1. a is the upper one.
template <typename Format, bool Relu = false>
SOFTGPU_LANE uint32_t encode_pair(float a, float b) {
    constexpr int lane = Format::width == 4 ? 4 : 8;
    return encode<Format, Relu>(a) << lane | encode<Format, Relu>(b);
}
template <typename Format, bool Relu = false>
SOFTGPU_LANE uint32_t encode_pair(f16x2 a) {
    return encode_pair<Format, Relu>(widen(high(a)), widen(low(a)));
}
template <typename Format, bool Relu = false>
SOFTGPU_LANE f16x2 decode_pair(uint32_t codes) {
    constexpr int lane = Format::width == 4 ? 4 : 8;
    constexpr uint32_t mask = (1u << Format::width) - 1;
    return pack(decode<Format, Relu>(codes & mask), decode<Format, Relu>(codes >> lane & mask));
}

// ue8m0: a power of two without a sign, 0xff is NaN. R: rz or rp. The magnitude of a is converted.
template <Rounding R, bool Satfinite>
SOFTGPU_LANE uint32_t encode_ue8m0(float a) {
    const uint32_t magnitude = to_bits(a) & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0xff;
    if (magnitude == 0x7f800000u) return Satfinite ? 0xfe : 0xff;
    uint32_t exponent = magnitude >> 23;
    // Code 0 is 2^-127, the f32 subnormal 0x00400000.
    const uint32_t exact = exponent == 0 ? 0x00400000u : exponent << 23;
    if (R == Rounding::rp && magnitude > exact) ++exponent;
    return exponent > 0xfe ? (Satfinite ? 0xfe : 0xff) : exponent;
}
template <Rounding R, bool Satfinite>
SOFTGPU_LANE uint32_t encode_ue8m0_pair(float a, float b) {
    return encode_ue8m0<R, Satfinite>(a) << 8 | encode_ue8m0<R, Satfinite>(b);
}
template <Rounding R, bool Satfinite>
SOFTGPU_LANE uint32_t encode_ue8m0_pair(bf16x2 a) {
    return encode_ue8m0_pair<R, Satfinite>(widen(high(a)), widen(low(a)));
}
SOFTGPU_LANE bf16 decode_ue8m0(uint32_t code) {
    return bf16{static_cast<uint16_t>(code == 0xff ? canonical_nan16 : (code == 0 ? 0x0040 : code << 7))};
}
SOFTGPU_LANE bf16x2 decode_ue8m0_pair(uint32_t codes) {
    return pack(decode_ue8m0(codes & 0xff), decode_ue8m0(codes >> 8 & 0xff));
}

}  // namespace softgpu::arithmetic
