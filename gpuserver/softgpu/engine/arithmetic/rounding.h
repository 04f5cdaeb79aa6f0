// Directed rounding without touching the processor's rounding mode where that is possible, so that loops vectorise.
//
// A value known exactly, or rounded to odd, in double can be rounded once more to any format of at most 51 bits in any
// direction without a double-rounding error (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums:
// proved algorithms using rounding to odd", 2008).
#pragma once

#include <cfenv>

#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

// The neighbour of a finite, inexact result in the direction that `R` asks for; `result` was rounded to nearest from
// `exact`. Works on infinities: they step back to the largest finite number.
template <Rounding R, typename Bits>
SOFTGPU_LANE Bits step(Bits magnitude_and_sign, bool too_high, bool too_low, bool negative) {
    if constexpr (R == Rounding::rm) {
        const Bits down = static_cast<Bits>(negative ? magnitude_and_sign + 1 : magnitude_and_sign - 1);
        return too_high ? down : magnitude_and_sign;
    } else if constexpr (R == Rounding::rp) {
        const Bits up = static_cast<Bits>(negative ? magnitude_and_sign - 1 : magnitude_and_sign + 1);
        return too_low ? up : magnitude_and_sign;
    } else if constexpr (R == Rounding::rz) {
        const bool too_far = negative ? too_low : too_high;
        return too_far ? static_cast<Bits>(magnitude_and_sign - 1) : magnitude_and_sign;
    } else {
        return magnitude_and_sign;
    }
}

template <Rounding R>
SOFTGPU_LANE float to_float(double exact) {
    const float nearest = static_cast<float>(exact);
    if constexpr (R == Rounding::rn) return nearest;
    const double back = nearest;
    const uint32_t bits = to_bits(nearest);
    return float_of(step<R>(bits, back > exact, back < exact, (bits >> 31) != 0));
}

// Rounds to the neighbour whose last bit is set, unless exact.
SOFTGPU_LANE float to_float_odd(double exact) {
    const float nearest = static_cast<float>(exact);
    const double back = nearest;
    const uint32_t bits = to_bits(nearest);
    const bool negative = (bits >> 31) != 0;
    const bool inexact = back > exact || back < exact;
    const bool too_far = negative ? back < exact : back > exact;
    const uint32_t odd = (bits & 1) != 0 ? bits : (too_far ? bits - 1 : bits + 1);
    return float_of(inexact ? odd : bits);
}

// a + b rounded to odd in double (exact when it fits). The error term is exact (Knuth's two-sum).
SOFTGPU_LANE double add_to_odd(double a, double b) {
    const double sum = a + b;
    const double b_part = sum - a;
    const double error = (a - (sum - b_part)) + (b - b_part);
    const uint64_t bits = to_bits(sum);
    const bool inexact = error > 0 || error < 0;  // false for NaN, which infinities give
    const bool away = (error > 0) != (sum < 0);   // the exact sum is farther from zero
    const uint64_t odd = (bits & 1) != 0 ? bits : (away ? bits + 1 : bits - 1);
    return double_of(inexact ? odd : bits);
}

// An exact zero sum is -0 when rounding down, unless both terms are +0 (IEEE 754, 6.3).
template <Rounding R>
SOFTGPU_LANE double zero_sum(double sum, bool any_negative) {
    if constexpr (R == Rounding::rm) return sum == 0 && any_negative ? -0.0 : sum;
    return sum;
}

// Sets the processor's rounding mode for the life of the object. What is computed under it passes `settle` before and
// after, which the compiler cannot move across the change.
class RoundingScope {
  public:
    explicit RoundingScope(Rounding rounding) : saved_(std::fegetround()) {
        std::fesetround(rounding == Rounding::rz   ? FE_TOWARDZERO
                        : rounding == Rounding::rm ? FE_DOWNWARD
                        : rounding == Rounding::rp ? FE_UPWARD
                                                   : FE_TONEAREST);
    }
    ~RoundingScope() { std::fesetround(saved_); }
    RoundingScope(const RoundingScope&) = delete;
    RoundingScope& operator=(const RoundingScope&) = delete;

  private:
    int saved_;
};

template <typename T>
SOFTGPU_LANE T settle(T value) {
    asm volatile("" : "+m"(value) : : "memory");
    return value;
}

}  // namespace softgpu::arithmetic
