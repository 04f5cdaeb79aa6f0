// Comparisons of setp and set (PTX ISA 9.3 "Comparison and Selection"), testp, copysign.
//
// Ordered comparisons are false with a NaN operand, unordered ones true. `ne` is ordered like the others.
#pragma once

#include "engine/arithmetic/half.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

template <Comparison C, bool Ftz = false, typename T>
SOFTGPU_LANE bool compare(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        static_assert(C <= Comparison::ge, "an unordered comparison needs floating operands");
        if constexpr (C == Comparison::eq) return a == b;
        if constexpr (C == Comparison::ne) return a != b;
        if constexpr (C == Comparison::lt) return a < b;
        if constexpr (C == Comparison::le) return a <= b;
        if constexpr (C == Comparison::gt) return a > b;
        if constexpr (C == Comparison::ge) return a >= b;
    } else if constexpr (std::is_floating_point_v<T>) {
        a = flush<Ftz>(a), b = flush<Ftz>(b);
        const bool unordered = is_nan(a) | is_nan(b);
        if constexpr (C == Comparison::eq) return a == b;
        if constexpr (C == Comparison::ne) return (a < b) | (a > b);
        if constexpr (C == Comparison::lt) return a < b;
        if constexpr (C == Comparison::le) return a <= b;
        if constexpr (C == Comparison::gt) return a > b;
        if constexpr (C == Comparison::ge) return a >= b;
        if constexpr (C == Comparison::equ) return (a == b) | unordered;
        if constexpr (C == Comparison::neu) return !(a == b);
        if constexpr (C == Comparison::ltu) return !(a >= b);
        if constexpr (C == Comparison::leu) return !(a > b);
        if constexpr (C == Comparison::gtu) return !(a <= b);
        if constexpr (C == Comparison::geu) return !(a < b);
        if constexpr (C == Comparison::num) return !unordered;
        if constexpr (C == Comparison::nan) return unordered;
    } else {
        return compare<C>(widen(flush<Ftz>(a)), widen(flush<Ftz>(b)));
    }
}

// The value that `set` stores for a predicate: all ones for integer destinations, 1.0 for floating ones.
template <typename To>
SOFTGPU_LANE To set_value(bool predicate) {
    if constexpr (std::is_integral_v<To>) {
        return predicate ? static_cast<To>(-1) : To{0};
    } else if constexpr (std::is_same_v<To, f16>) {
        return f16{static_cast<uint16_t>(predicate ? 0x3c00 : 0)};
    } else if constexpr (std::is_same_v<To, bf16>) {
        return bf16{static_cast<uint16_t>(predicate ? 0x3f80 : 0)};
    } else {
        return predicate ? To{1} : To{0};
    }
}

enum class FloatClass : uint8_t { finite, infinite, number, notanumber, normal, subnormal };

// testp. As a special case, zeros are normal (PTX ISA 9.7.3 "testp").
template <FloatClass P, typename T>
SOFTGPU_LANE bool test(T value) {
    constexpr bool wide = sizeof(T) == 8;
    using Bits = std::conditional_t<wide, uint64_t, uint32_t>;
    const Bits magnitude = static_cast<Bits>(to_bits(value) << 1) >> 1;
    constexpr Bits infinity = static_cast<Bits>(wide ? 0x7ff0000000000000u : 0x7f800000u);
    constexpr Bits smallest = static_cast<Bits>(wide ? 0x0010000000000000u : 0x00800000u);
    if constexpr (P == FloatClass::finite) return magnitude < infinity;
    if constexpr (P == FloatClass::infinite) return magnitude == infinity;
    if constexpr (P == FloatClass::number) return magnitude <= infinity;
    if constexpr (P == FloatClass::notanumber) return magnitude > infinity;
    if constexpr (P == FloatClass::normal) return magnitude == 0 || (magnitude >= smallest && magnitude < infinity);
    if constexpr (P == FloatClass::subnormal) return magnitude != 0 && magnitude < smallest;
}

// copysign d, a, b: the sign of a, the magnitude of b.
SOFTGPU_LANE float copysign(float a, float b) {
    return float_of((to_bits(a) & 0x80000000u) | (to_bits(b) & 0x7fffffffu));
}
SOFTGPU_LANE double copysign(double a, double b) {
    return double_of((to_bits(a) & 0x8000000000000000u) | (to_bits(b) & 0x7fffffffffffffffu));
}

}  // namespace softgpu::arithmetic
