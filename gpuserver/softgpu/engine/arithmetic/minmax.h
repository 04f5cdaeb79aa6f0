// Floating-point min and max (PTX ISA 9.7.3, 9.7.4): f32, f64, f16, bf16 and the packed halves.
//
// One NaN operand: the other operand. Both NaN, or `PropagateNan` (.NaN) and any NaN: canonical NaN (f64: see
// types.h). -0 < +0. `XorSign` (.xorsign.abs): min/max of the magnitudes, the sign is the xor of the operands' signs.
// Integers are in integer.h.
#pragma once

#include "engine/arithmetic/half.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

namespace detail {

template <typename T>
SOFTGPU_LANE auto raw_bits(T value) {
    if constexpr (std::is_floating_point_v<T>) {
        return to_bits(value);
    } else {
        return value.bits;
    }
}

template <typename T, typename Bits>
SOFTGPU_LANE T from_bits(Bits bits) {
    if constexpr (std::is_floating_point_v<T>) {
        return std::bit_cast<T>(bits);
    } else {
        return T{bits};
    }
}

template <bool Max, typename T>
SOFTGPU_LANE T pick(T a, T b) {
    using Bits = decltype(raw_bits(a));
    const auto wide_a = widen(a);
    const auto wide_b = widen(b);
    constexpr Bits sign = static_cast<Bits>(Bits{1} << (sizeof(Bits) * 8 - 1));
    const bool a_negative = (raw_bits(a) & sign) != 0;
    // Equal values are the same number or zeros of either sign; then the sign decides.
    const bool equal = wide_a == wide_b;
    const bool a_first = Max ? (wide_a > wide_b) || (equal && !a_negative) : (wide_a < wide_b) || (equal && a_negative);
    return a_first ? a : b;
}

template <typename T>
SOFTGPU_LANE T both_nan(T a, T b) {
    if constexpr (std::is_same_v<T, double>) {
        return choose_nan(double_of(default_nan64), a, b);
    } else {
        return canonical(is_nan(a) ? a : b);
    }
}

template <bool Max, bool Ftz, bool PropagateNan, bool XorSign, typename T>
SOFTGPU_LANE T extremum(T a, T b) {
    a = flush<Ftz>(a), b = flush<Ftz>(b);
    using Bits = decltype(raw_bits(a));
    constexpr Bits sign = static_cast<Bits>(Bits{1} << (sizeof(Bits) * 8 - 1));
    const Bits sign_bit = static_cast<Bits>((raw_bits(a) ^ raw_bits(b)) & sign);
    if constexpr (XorSign) {
        a = from_bits<T>(static_cast<Bits>(raw_bits(a) & static_cast<Bits>(~sign)));
        b = from_bits<T>(static_cast<Bits>(raw_bits(b) & static_cast<Bits>(~sign)));
    }
    const bool a_nan = is_nan(a);
    const bool b_nan = is_nan(b);
    T result = pick<Max>(a, b);
    result = a_nan ? b : (b_nan ? a : result);
    const bool nan = PropagateNan ? (a_nan || b_nan) : (a_nan && b_nan);
    if constexpr (XorSign) result = from_bits<T>(static_cast<Bits>(raw_bits(result) | sign_bit));
    return nan ? both_nan(a, b) : result;
}

template <bool Relu, typename T>
SOFTGPU_LANE T relu(T value) {
    using Bits = decltype(raw_bits(value));
    constexpr Bits sign = static_cast<Bits>(Bits{1} << (sizeof(Bits) * 8 - 1));
    if constexpr (!Relu) return value;
    return !is_nan(value) && (raw_bits(value) & sign) != 0 ? from_bits<T>(Bits{0}) : value;
}

}  // namespace detail

template <typename T>
concept Float = std::is_floating_point_v<T> || Half<T>;

template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, Float T>
SOFTGPU_LANE T min(T a, T b) {
    return detail::extremum<false, Ftz, PropagateNan, XorSign>(a, b);
}
template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, Float T>
SOFTGPU_LANE T max(T a, T b) {
    return detail::extremum<true, Ftz, PropagateNan, XorSign>(a, b);
}
// Three operands: f32 only and without .xorsign.abs, PTX 8.8.
template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, Float T>
SOFTGPU_LANE T min(T a, T b, T c) {
    static_assert(!XorSign);
    return min<Ftz, PropagateNan>(min<Ftz, PropagateNan>(a, b), c);
}
template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, Float T>
SOFTGPU_LANE T max(T a, T b, T c) {
    static_assert(!XorSign);
    return max<Ftz, PropagateNan>(max<Ftz, PropagateNan>(a, b), c);
}
template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, HalfPair T>
SOFTGPU_LANE T min(T a, T b) {
    return pack(min<Ftz, PropagateNan, XorSign>(low(a), low(b)), min<Ftz, PropagateNan, XorSign>(high(a), high(b)));
}
template <bool Ftz = false, bool PropagateNan = false, bool XorSign = false, HalfPair T>
SOFTGPU_LANE T max(T a, T b) {
    return pack(max<Ftz, PropagateNan, XorSign>(low(a), low(b)), max<Ftz, PropagateNan, XorSign>(high(a), high(b)));
}

}  // namespace softgpu::arithmetic
