// The operand types of PTX arithmetic and its NaN rules.
//
// NaN rules. PTX ISA 9.7.3 "Floating-Point Instructions": f64 instructions support NaN payloads, f32 instructions give
// an unspecified NaN. The CUDA programming guide ("Floating-Point Standard") names that one: 0x7fffffff. So:
//   f32          every arithmetic result that is a NaN is 0x7fffffff (canonical).
//   f16, bf16    0x7fff (PTX calls it canonical NaN in min/max/fma.relu; used for every arithmetic result).
//   f64          the first operand that is a NaN, made quiet, payload kept; an invalid operation gives
//                0xfff8000000000000, which is what NVIDIA's hardware (and x86's) delivers.
// abs, neg, copysign, mov, selp, slct and memory keep every bit of a NaN but the sign they are asked to change.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

// Code that is compiled for several instruction sets must never be merged by the linker.
#define SOFTGPU_LANE [[gnu::always_inline]] inline

namespace softgpu::arithmetic {

// rn, rz, rm, rp: to nearest even, to zero, down, up. Conversions to integers (.rni, .rzi, .rmi, .rpi) use the same
// names. rna: to nearest, ties away from zero (tf32 only).
enum class Rounding : uint8_t { rn, rz, rm, rp, rna };

// lo, ls, hi, hs are lt, le, gt, ge on unsigned operands: the operand type already says so.
enum class Comparison : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};
struct f16x2 {
    uint32_t bits;
};
struct bf16x2 {
    uint32_t bits;
};
struct f32x2 {
    uint64_t bits;
};
struct s16x2 {
    uint32_t bits;
};
struct u16x2 {
    uint32_t bits;
};

inline constexpr uint32_t canonical_nan32 = 0x7fffffffu;
inline constexpr uint64_t default_nan64 = 0xfff8000000000000u;
inline constexpr uint16_t canonical_nan16 = 0x7fffu;

SOFTGPU_LANE uint32_t to_bits(float value) {
    return std::bit_cast<uint32_t>(value);
}
SOFTGPU_LANE uint64_t to_bits(double value) {
    return std::bit_cast<uint64_t>(value);
}
SOFTGPU_LANE float float_of(uint32_t bits) {
    return std::bit_cast<float>(bits);
}
SOFTGPU_LANE double double_of(uint64_t bits) {
    return std::bit_cast<double>(bits);
}

SOFTGPU_LANE bool is_nan(float value) {
    return value != value;
}
SOFTGPU_LANE bool is_nan(double value) {
    return value != value;
}
SOFTGPU_LANE bool is_nan(f16 value) {
    return (value.bits & 0x7fff) > 0x7c00;
}
SOFTGPU_LANE bool is_nan(bf16 value) {
    return (value.bits & 0x7fff) > 0x7f80;
}

// The two halves of a packed value: lane 0 is the low one.
SOFTGPU_LANE f16 low(f16x2 v) {
    return {static_cast<uint16_t>(v.bits)};
}
SOFTGPU_LANE f16 high(f16x2 v) {
    return {static_cast<uint16_t>(v.bits >> 16)};
}
SOFTGPU_LANE bf16 low(bf16x2 v) {
    return {static_cast<uint16_t>(v.bits)};
}
SOFTGPU_LANE bf16 high(bf16x2 v) {
    return {static_cast<uint16_t>(v.bits >> 16)};
}
SOFTGPU_LANE float low(f32x2 v) {
    return float_of(static_cast<uint32_t>(v.bits));
}
SOFTGPU_LANE float high(f32x2 v) {
    return float_of(static_cast<uint32_t>(v.bits >> 32));
}
SOFTGPU_LANE int16_t low(s16x2 v) {
    return static_cast<int16_t>(v.bits);
}
SOFTGPU_LANE int16_t high(s16x2 v) {
    return static_cast<int16_t>(v.bits >> 16);
}
SOFTGPU_LANE uint16_t low(u16x2 v) {
    return static_cast<uint16_t>(v.bits);
}
SOFTGPU_LANE uint16_t high(u16x2 v) {
    return static_cast<uint16_t>(v.bits >> 16);
}

SOFTGPU_LANE f16x2 pack(f16 low, f16 high) {
    return {uint32_t{low.bits} | uint32_t{high.bits} << 16};
}
SOFTGPU_LANE bf16x2 pack(bf16 low, bf16 high) {
    return {uint32_t{low.bits} | uint32_t{high.bits} << 16};
}
SOFTGPU_LANE f32x2 pack(float low, float high) {
    return {uint64_t{to_bits(low)} | uint64_t{to_bits(high)} << 32};
}
SOFTGPU_LANE s16x2 pack(int16_t low, int16_t high) {
    return {uint32_t{static_cast<uint16_t>(low)} | uint32_t{static_cast<uint16_t>(high)} << 16};
}
SOFTGPU_LANE u16x2 pack(uint16_t low, uint16_t high) {
    return {uint32_t{low} | uint32_t{high} << 16};
}

// .ftz on an operand or result: a subnormal becomes a zero of the same sign.
template <bool Ftz>
SOFTGPU_LANE float flush(float value) {
    if constexpr (!Ftz) return value;
    const uint32_t bits = to_bits(value);
    return float_of((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}
template <bool Ftz>
SOFTGPU_LANE f16 flush(f16 value) {
    if constexpr (!Ftz) return value;
    return {static_cast<uint16_t>((value.bits & 0x7c00) == 0 ? value.bits & 0x8000 : value.bits)};
}
template <bool Ftz>
SOFTGPU_LANE bf16 flush(bf16 value) {
    if constexpr (!Ftz) return value;
    return {static_cast<uint16_t>((value.bits & 0x7f80) == 0 ? value.bits & 0x8000 : value.bits)};
}
template <bool Ftz>
SOFTGPU_LANE double flush(double value) {
    return value;  // PTX has no .ftz for f64
}

SOFTGPU_LANE float canonical(float value) {
    return is_nan(value) ? float_of(canonical_nan32) : value;
}
SOFTGPU_LANE f16 canonical(f16 value) {
    return is_nan(value) ? f16{canonical_nan16} : value;
}
SOFTGPU_LANE bf16 canonical(bf16 value) {
    return is_nan(value) ? bf16{canonical_nan16} : value;
}
SOFTGPU_LANE double quiet(double value) {
    return double_of(to_bits(value) | 0x0008000000000000u);
}

// The result of an f64 operation, its NaN chosen by the rule above, whatever the host's instruction picked.
SOFTGPU_LANE double choose_nan(double result, double a) {
    const double nan = is_nan(a) ? quiet(a) : double_of(default_nan64);
    return is_nan(result) ? nan : result;
}
SOFTGPU_LANE double choose_nan(double result, double a, double b) {
    const double nan = is_nan(b) ? quiet(b) : double_of(default_nan64);
    return is_nan(result) ? (is_nan(a) ? quiet(a) : nan) : result;
}
SOFTGPU_LANE double choose_nan(double result, double a, double b, double c) {
    const double nan = is_nan(c) ? quiet(c) : double_of(default_nan64);
    return is_nan(result) ? (is_nan(a) ? quiet(a) : is_nan(b) ? quiet(b) : nan) : result;
}

// .sat: to [+0.0, 1.0]; NaN and -0.0 become +0.0.
template <bool Sat, typename T>
SOFTGPU_LANE T saturate(T value) {
    if constexpr (!Sat) return value;
    const T above = value > T{0} ? value : T{0};
    return above < T{1} ? above : T{1};
}

// What every f32 result goes through.
template <bool Ftz, bool Sat>
SOFTGPU_LANE float finish(float result) {
    return saturate<Sat>(flush<Ftz>(canonical(result)));
}

}  // namespace softgpu::arithmetic
