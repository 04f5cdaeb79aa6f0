// Integer arithmetic (PTX ISA 9.7.1, 9.7.2): T is the C++ type of the PTX type. Everything wraps, nothing traps.
//
// Division by zero is unspecified in PTX. Chosen as NVIDIA's hardware answers (and ptxas folds constants): quotient and
// remainder are all ones. The smallest number divided by -1 is itself, remainder 0.
#pragma once

#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

template <typename T>
concept Integer = std::is_integral_v<T>;

namespace detail {

template <typename T>
using Unsigned = std::make_unsigned_t<T>;

// Where wrapping arithmetic is done: never in an int that small operands were promoted to.
template <typename T>
using Wrapping = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <typename T>
struct Twice;
template <>
struct Twice<int8_t> {
    using type = int16_t;
};
template <>
struct Twice<uint8_t> {
    using type = uint16_t;
};
template <>
struct Twice<int16_t> {
    using type = int32_t;
};
template <>
struct Twice<uint16_t> {
    using type = uint32_t;
};
template <>
struct Twice<int32_t> {
    using type = int64_t;
};
template <>
struct Twice<uint32_t> {
    using type = uint64_t;
};
template <>
struct Twice<int64_t> {
    using type = __int128;
};
template <>
struct Twice<uint64_t> {
    using type = unsigned __int128;
};
template <typename T>
using Wide = typename Twice<T>::type;

}  // namespace detail

template <bool Sat = false, Integer T>
SOFTGPU_LANE T add(T a, T b) {
    if constexpr (Sat) {
        const detail::Wide<T> sum = static_cast<detail::Wide<T>>(a) + b;
        constexpr detail::Wide<T> most = std::numeric_limits<T>::max();
        constexpr detail::Wide<T> least = std::numeric_limits<T>::min();
        return static_cast<T>(sum > most ? most : (sum < least ? least : sum));
    } else {
        using U = detail::Wrapping<T>;
        return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    }
}

template <bool Sat = false, Integer T>
SOFTGPU_LANE T sub(T a, T b) {
    if constexpr (Sat) {
        static_assert(std::is_signed_v<T>, "PTX has sub.sat for s32 only");
        const detail::Wide<T> difference = static_cast<detail::Wide<T>>(a) - b;
        constexpr detail::Wide<T> most = std::numeric_limits<T>::max();
        constexpr detail::Wide<T> least = std::numeric_limits<T>::min();
        return static_cast<T>(difference > most ? most : (difference < least ? least : difference));
    } else {
        using U = detail::Wrapping<T>;
        return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
    }
}

template <Integer T>
SOFTGPU_LANE T mul_lo(T a, T b) {
    using U = detail::Wrapping<T>;
    return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
}
template <Integer T>
SOFTGPU_LANE T mul_hi(T a, T b) {
    return static_cast<T>((static_cast<detail::Wide<T>>(a) * static_cast<detail::Wide<T>>(b)) >> (sizeof(T) * 8));
}
template <Integer T>
SOFTGPU_LANE detail::Wide<T> mul_wide(T a, T b) {
    return static_cast<detail::Wide<T>>(static_cast<detail::Wide<T>>(a) * static_cast<detail::Wide<T>>(b));
}

template <Integer T>
SOFTGPU_LANE T mad_lo(T a, T b, T c) {
    return add(mul_lo(a, b), c);
}
template <bool Sat = false, Integer T>
SOFTGPU_LANE T mad_hi(T a, T b, T c) {
    return add<Sat>(mul_hi(a, b), c);
}
template <Integer T>
SOFTGPU_LANE detail::Wide<T> mad_wide(T a, T b, detail::Wide<T> c) {
    static_assert(sizeof(T) <= 4, "PTX has wide products of 16 and 32-bit operands");
    return add(mul_wide(a, b), c);
}

// 24-bit operands: s32 or u32 whose upper byte is ignored. lo: the low 32 bits of the 48-bit product; hi: bits 47..16.
template <Integer T>
SOFTGPU_LANE T low24(T a) {
    return static_cast<T>(static_cast<T>(static_cast<uint32_t>(a) << 8) >> 8);
}
template <Integer T>
SOFTGPU_LANE T mul24_lo(T a, T b) {
    return static_cast<T>(mul_wide(low24(a), low24(b)));
}
template <Integer T>
SOFTGPU_LANE T mul24_hi(T a, T b) {
    return static_cast<T>(mul_wide(low24(a), low24(b)) >> 16);
}
template <Integer T>
SOFTGPU_LANE T mad24_lo(T a, T b, T c) {
    return add(mul24_lo(a, b), c);
}
template <bool Sat = false, Integer T>
SOFTGPU_LANE T mad24_hi(T a, T b, T c) {
    return add<Sat>(mul24_hi(a, b), c);
}

// c + |a - b|
template <Integer T>
SOFTGPU_LANE T sad(T a, T b, T c) {
    return add(a < b ? sub(b, a) : sub(a, b), c);
}

template <Integer T>
SOFTGPU_LANE T div(T a, T b) {
    if constexpr (std::is_signed_v<T>) {
        if (b == -1) return sub(T{0}, a);
    }
    return b == 0 ? static_cast<T>(-1) : static_cast<T>(a / b);
}
template <Integer T>
SOFTGPU_LANE T rem(T a, T b) {
    if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
    }
    return b == 0 ? static_cast<T>(-1) : static_cast<T>(a % b);
}

template <Integer T>
SOFTGPU_LANE T abs(T a) {
    return a < 0 ? sub(T{0}, a) : a;
}
template <Integer T>
SOFTGPU_LANE T neg(T a) {
    return sub(T{0}, a);
}

template <bool Relu = false, Integer T>
SOFTGPU_LANE T min(T a, T b) {
    const T result = a < b ? a : b;
    return Relu && result < 0 ? T{0} : result;
}
template <bool Relu = false, Integer T>
SOFTGPU_LANE T max(T a, T b) {
    const T result = a > b ? a : b;
    return Relu && result < 0 ? T{0} : result;
}

template <typename T>
concept IntegerPair = std::is_same_v<T, s16x2> || std::is_same_v<T, u16x2>;

template <IntegerPair T>
SOFTGPU_LANE T add(T a, T b) {
    return pack(add(low(a), low(b)), add(high(a), high(b)));
}
template <IntegerPair T>
SOFTGPU_LANE T sub(T a, T b) {
    return pack(sub(low(a), low(b)), sub(high(a), high(b)));
}
template <IntegerPair T>
SOFTGPU_LANE T neg(T a) {
    return pack(neg(low(a)), neg(high(a)));
}
template <bool Relu = false, IntegerPair T>
SOFTGPU_LANE T min(T a, T b) {
    return pack(min<Relu>(low(a), low(b)), min<Relu>(high(a), high(b)));
}
template <bool Relu = false, IntegerPair T>
SOFTGPU_LANE T max(T a, T b) {
    return pack(max<Relu>(low(a), low(b)), max<Relu>(high(a), high(b)));
}

// Carry chains: T is u32 or u64 (signedness makes no difference). `carry` is CC.CF, read and written: add.cc writes,
// addc reads, addc.cc does both; callers drop what their form does not write. Subtraction borrows when CC.CF is set.
template <typename T>
struct WithCarry {
    T value;
    bool carry;
};

template <Integer T>
SOFTGPU_LANE WithCarry<T> add_carry(T a, T b, bool carry_in = false) {
    using U = detail::Unsigned<T>;
    const U partial = static_cast<U>(static_cast<U>(a) + static_cast<U>(b));
    const U sum = static_cast<U>(partial + (carry_in ? 1 : 0));
    return {static_cast<T>(sum), partial < static_cast<U>(a) || sum < partial};
}
template <Integer T>
SOFTGPU_LANE WithCarry<T> sub_carry(T a, T b, bool borrow_in = false) {
    using U = detail::Unsigned<T>;
    const U partial = static_cast<U>(static_cast<U>(a) - static_cast<U>(b));
    const U difference = static_cast<U>(partial - (borrow_in ? 1 : 0));
    const bool borrow = static_cast<U>(a) < static_cast<U>(b) || partial < difference;
    return {static_cast<T>(difference), borrow};
}
template <Integer T>
SOFTGPU_LANE WithCarry<T> mad_lo_carry(T a, T b, T c, bool carry_in = false) {
    return add_carry(mul_lo(a, b), c, carry_in);
}
template <Integer T>
SOFTGPU_LANE WithCarry<T> mad_hi_carry(T a, T b, T c, bool carry_in = false) {
    return add_carry(mul_hi(a, b), c, carry_in);
}

// Dot products. A and B: int32_t or uint32_t, how the bytes (or 16-bit halves) of a and b are read.
template <typename A, typename B>
SOFTGPU_LANE uint32_t dp4a(uint32_t a, uint32_t b, uint32_t c) {
    using ElementA = std::conditional_t<std::is_signed_v<A>, int8_t, uint8_t>;
    using ElementB = std::conditional_t<std::is_signed_v<B>, int8_t, uint8_t>;
    uint32_t sum = c;
    for (int i = 0; i < 4; ++i) {
        sum += static_cast<uint32_t>(int32_t{static_cast<ElementA>(a >> (8 * i))} *
                                     int32_t{static_cast<ElementB>(b >> (8 * i))});
    }
    return sum;
}
// High: the upper two bytes of b.
template <bool High, typename A, typename B>
SOFTGPU_LANE uint32_t dp2a(uint32_t a, uint32_t b, uint32_t c) {
    using ElementA = std::conditional_t<std::is_signed_v<A>, int16_t, uint16_t>;
    using ElementB = std::conditional_t<std::is_signed_v<B>, int8_t, uint8_t>;
    uint32_t sum = c;
    for (int i = 0; i < 2; ++i) {
        sum += static_cast<uint32_t>(int32_t{static_cast<ElementA>(a >> (16 * i))} *
                                     int32_t{static_cast<ElementB>(b >> (8 * i + (High ? 16 : 0)))});
    }
    return sum;
}

}  // namespace softgpu::arithmetic
