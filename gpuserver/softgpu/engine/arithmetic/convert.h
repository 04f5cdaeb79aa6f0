// cvt between the integer types, f16, bf16, f32 and f64 (PTX ISA 9.7.9 "cvt"), and cvt.pack.
//
// Float to integer: rounded by .rni/.rzi/.rmi/.rpi, then clamped to the destination's range. NaN gives 0 when the
// source is not f64 and the destination is not 64 bits wide, else 1 << (width - 1).
#pragma once

#include <cmath>
#include <utility>

#include "engine/arithmetic/half.h"
#include "engine/arithmetic/integer.h"
#include "engine/arithmetic/rounding.h"
#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

namespace detail {

template <Rounding R, typename T>
SOFTGPU_LANE T round_to_integral(T value) {
    if constexpr (std::is_same_v<T, float>) {
        if constexpr (R == Rounding::rn) return __builtin_rintf(value);
        if constexpr (R == Rounding::rz) return __builtin_truncf(value);
        if constexpr (R == Rounding::rm) return __builtin_floorf(value);
        if constexpr (R == Rounding::rp) return __builtin_ceilf(value);
    } else {
        if constexpr (R == Rounding::rn) return __builtin_rint(value);
        if constexpr (R == Rounding::rz) return __builtin_trunc(value);
        if constexpr (R == Rounding::rm) return __builtin_floor(value);
        if constexpr (R == Rounding::rp) return __builtin_ceil(value);
    }
}

// 2^(bits of the range): one past the largest value; exact in every floating type.
template <typename To, typename F>
inline constexpr F past_largest = static_cast<F>(To{1} << (std::numeric_limits<To>::digits - 1)) * F{2};

template <typename To, bool FromDouble, typename F>
SOFTGPU_LANE To clamp_to_integer(F integral) {
    constexpr F past = past_largest<To, F>;
    constexpr F least = static_cast<F>(std::numeric_limits<To>::min());
    constexpr To most = std::numeric_limits<To>::max();
    constexpr bool to_zero = !FromDouble && sizeof(To) < 8;
    constexpr To of_nan = to_zero ? To{0} : static_cast<To>(std::make_unsigned_t<To>{1} << (sizeof(To) * 8 - 1));
    // Small integers go through int32_t, so that a vector conversion exists.
    using Through = std::conditional_t<(sizeof(To) < 4), int32_t, To>;
    const bool in_range = integral < past && integral >= least;
    const To value = static_cast<To>(static_cast<Through>(in_range ? integral : F{0}));
    const To clamped = integral >= past ? most : (integral < least ? std::numeric_limits<To>::min() : value);
    return is_nan(integral) ? of_nan : clamped;
}

// A 64-bit integer rounded to odd in double.
template <typename T>
SOFTGPU_LANE double to_double_odd(T value) {
    const bool negative = std::is_signed_v<T> && value < 0;
    uint64_t magnitude = negative ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    const uint64_t jammed = (magnitude | ((magnitude & 0x7ff) + 0x7ff)) & ~uint64_t{0x7ff};
    magnitude = magnitude >> 53 != 0 ? jammed : magnitude;
    const double result = static_cast<double>(magnitude);
    return negative ? -result : result;
}

template <Rounding R, typename T>
SOFTGPU_LANE double integer_to_double(T value) {
    const double nearest = static_cast<double>(value);
    if constexpr (sizeof(T) < 8 || R == Rounding::rn) {
        return nearest;
    } else {
        const __int128 back = static_cast<__int128>(nearest);
        const __int128 exact = value;
        return double_of(step<R>(to_bits(nearest), back > exact, back < exact, nearest < 0));
    }
}

template <typename T>
inline constexpr bool is_float = std::is_floating_point_v<T> || is_half<T>;

}  // namespace detail

// cvt.{rni,rzi,rmi,rpi}.T.T: a floating value rounded to an integral one of the same type.
template <Rounding R, bool Ftz = false, bool Sat = false, typename T>
SOFTGPU_LANE T cvt_integral(T a) {
    if constexpr (std::is_same_v<T, float>) {
        return finish<Ftz, Sat>(detail::round_to_integral<R>(flush<Ftz>(a)));
    } else if constexpr (std::is_same_v<T, double>) {
        return saturate<Sat>(choose_nan(detail::round_to_integral<R>(a), a));
    } else {
        const T rounded = narrow<T>(detail::round_to_integral<R>(widen(flush<Ftz>(a))));
        return detail::finish_half<false, Sat, false>(rounded);
    }
}

// Every other cvt of one value. `R` is the rounding of the destination; it is ignored where the result is exact.
// `Ftz` flushes f32 operands and results only, as PTX has it.
template <typename To, Rounding R = Rounding::rn, bool Ftz = false, bool Sat = false, typename From>
SOFTGPU_LANE To cvt(From a) {
    if constexpr (std::is_integral_v<From> && std::is_integral_v<To>) {
        if constexpr (!Sat) {
            return static_cast<To>(a);
        } else {
            constexpr To most = std::numeric_limits<To>::max();
            constexpr To least = std::numeric_limits<To>::min();
            if (std::cmp_greater(a, most)) return most;
            if (std::cmp_less(a, least)) return least;
            return static_cast<To>(a);
        }
    } else if constexpr (std::is_integral_v<From>) {
        if constexpr (std::is_same_v<To, double>) {
            return saturate<Sat>(detail::integer_to_double<R>(a));
        } else if constexpr (std::is_same_v<To, float>) {
            if constexpr (R == Rounding::rn) return saturate<Sat>(static_cast<float>(a));
            if constexpr (sizeof(From) < 8) return saturate<Sat>(to_float<R>(static_cast<double>(a)));
            return saturate<Sat>(to_float<R>(detail::to_double_odd(a)));
        } else {
            if constexpr (sizeof(From) < 8) {
                return detail::finish_half<false, Sat, false>(narrow<To, R>(static_cast<double>(a)));
            } else {
                return detail::finish_half<false, Sat, false>(narrow<To, R>(detail::to_double_odd(a)));
            }
        }
    } else if constexpr (std::is_integral_v<To>) {
        // Only f32 operands are flushed: f16 and bf16 have no .ftz here.
        if constexpr (std::is_same_v<From, float>) a = flush<Ftz>(a);
        const auto integral = detail::round_to_integral<R>(widen(a));
        return detail::clamp_to_integer<To, std::is_same_v<From, double>>(integral);
    } else if constexpr (std::is_same_v<To, double>) {
        if constexpr (std::is_same_v<From, double>) {
            return saturate<Sat>(choose_nan(a, a));
        } else {
            // A half goes through f32, which makes its NaN canonical; an f32 NaN keeps sign and payload (as ptxas
            // folds).
            float source = canonical(widen(a));
            if constexpr (std::is_same_v<From, float>) source = flush<Ftz>(a);
            return saturate<Sat>(static_cast<double>(source));
        }
    } else if constexpr (std::is_same_v<To, float>) {
        if constexpr (std::is_same_v<From, double>) return finish<Ftz, Sat>(to_float<R>(a));
        return finish<Ftz, Sat>(static_cast<float>(widen(a)));
    } else {
        if constexpr (std::is_same_v<From, float>) a = flush<Ftz>(a);
        if constexpr (std::is_same_v<From, To>) return detail::finish_half<false, Sat, false>(a);
        return detail::finish_half<false, Sat, false>(narrow<To, R>(widen(a)));
    }
}

// cvt.pack.sat.{u,s}{16,8,4,2}.s32: a above b, both saturated to `Width` bits; below 16 bits above them c's low bits.
template <unsigned Width, bool Signed>
SOFTGPU_LANE uint32_t cvt_pack(int32_t a, int32_t b, uint32_t c = 0) {
    constexpr int32_t most = static_cast<int32_t>((1u << (Signed ? Width - 1 : Width)) - 1);
    constexpr int32_t least = Signed ? -most - 1 : 0;
    constexpr uint32_t mask = (1u << Width) - 1;
    const uint32_t upper = static_cast<uint32_t>(a > most ? most : (a < least ? least : a)) & mask;
    const uint32_t lower = static_cast<uint32_t>(b > most ? most : (b < least ? least : b)) & mask;
    const uint32_t packed = upper << Width | lower;
    if constexpr (Width == 16) return packed;
    return c << (2 * Width % 32) | packed;
}

}  // namespace softgpu::arithmetic
