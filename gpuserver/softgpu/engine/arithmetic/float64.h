// f64 arithmetic (PTX ISA 9.7.3). NaN payloads are kept, see types.h.
#pragma once

#include <cmath>

#include "engine/arithmetic/rounding.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

// Directed rounding of double goes through the processor's rounding mode: correct everywhere, slow, and rare.
template <Rounding R>
[[gnu::noinline]] static double add_directed(double a, double b) {
    const RoundingScope scope(R);
    return settle(settle(a) + settle(b));
}
template <Rounding R>
[[gnu::noinline]] static double multiply_directed(double a, double b) {
    const RoundingScope scope(R);
    return settle(settle(a) * settle(b));
}
template <Rounding R>
[[gnu::noinline]] static double fma_directed(double a, double b, double c) {
    const RoundingScope scope(R);
    return settle(std::fma(settle(a), settle(b), settle(c)));
}
template <Rounding R>
[[gnu::noinline]] static double divide_directed(double a, double b) {
    const RoundingScope scope(R);
    return settle(settle(a) / settle(b));
}
template <Rounding R>
[[gnu::noinline]] static double square_root_directed(double a) {
    const RoundingScope scope(R);
    return settle(std::sqrt(settle(a)));
}

// `Ftz` and `Sat` do not exist for f64; the parameters keep the overloads uniform.
template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE double add(double a, double b) {
    if constexpr (R == Rounding::rn) return choose_nan(a + b, a, b);
    return choose_nan(add_directed<R>(a, b), a, b);
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE double sub(double a, double b) {
    if constexpr (R == Rounding::rn) return choose_nan(a - b, a, b);
    return choose_nan(add_directed<R>(a, -b), a, b);
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE double mul(double a, double b) {
    if constexpr (R == Rounding::rn) return choose_nan(a * b, a, b);
    return choose_nan(multiply_directed<R>(a, b), a, b);
}

template <Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false>
SOFTGPU_LANE double fma(double a, double b, double c) {
    if constexpr (R == Rounding::rn) return choose_nan(__builtin_fma(a, b, c), a, b, c);
    return choose_nan(fma_directed<R>(a, b, c), a, b, c);
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE double div(double a, double b) {
    if constexpr (R == Rounding::rn) return choose_nan(a / b, a, b);
    return choose_nan(divide_directed<R>(a, b), a, b);
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE double rcp(double a) {
    return div<R>(1.0, a);
}

template <Rounding R = Rounding::rn, bool Ftz = false>
SOFTGPU_LANE double sqrt(double a) {
    if constexpr (R == Rounding::rn) return choose_nan(__builtin_sqrt(a), a);
    return choose_nan(square_root_directed<R>(a), a);
}

template <bool Ftz = false>
SOFTGPU_LANE double abs(double a) {
    return double_of(to_bits(a) & 0x7fffffffffffffffu);
}

template <bool Ftz = false>
SOFTGPU_LANE double neg(double a) {
    return double_of(to_bits(a) ^ 0x8000000000000000u);
}

}  // namespace softgpu::arithmetic
