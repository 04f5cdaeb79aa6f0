// Bits: counting, fields, permutation, logic, shifts (PTX ISA 9.7.1, 9.7.8).
#pragma once

#include <bit>

#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

template <typename T>
concept Bits = std::is_unsigned_v<T>;

// b32 or b64; the result is u32.
template <Bits T>
SOFTGPU_LANE uint32_t popc(T a) {
    return static_cast<uint32_t>(std::popcount(a));
}
template <Bits T>
SOFTGPU_LANE uint32_t clz(T a) {
    return static_cast<uint32_t>(std::countl_zero(a));
}

SOFTGPU_LANE uint32_t brev(uint32_t a) {
    a = (a & 0x55555555u) << 1 | (a >> 1 & 0x55555555u);
    a = (a & 0x33333333u) << 2 | (a >> 2 & 0x33333333u);
    a = (a & 0x0f0f0f0fu) << 4 | (a >> 4 & 0x0f0f0f0fu);
    return __builtin_bswap32(a);
}
SOFTGPU_LANE uint64_t brev(uint64_t a) {
    return uint64_t{brev(static_cast<uint32_t>(a))} << 32 | brev(static_cast<uint32_t>(a >> 32));
}

// The position of the most significant bit that is not the sign; 0xffffffff when there is none. `ShiftAmount`: the
// left shift that would bring it to the top. T signed or unsigned, 32 or 64 bits.
template <bool ShiftAmount = false, typename T>
SOFTGPU_LANE uint32_t bfind(T a) {
    using U = std::make_unsigned_t<T>;
    U value = static_cast<U>(a);
    if constexpr (std::is_signed_v<T>) value = a < 0 ? static_cast<U>(~value) : value;
    constexpr uint32_t top = sizeof(T) * 8 - 1;
    const uint32_t leading = static_cast<uint32_t>(std::countl_zero(value));
    return value == 0 ? 0xffffffffu : (ShiftAmount ? leading : top - leading);
}

// The position of the n-th set bit counted from `base` upwards (n > 0) or downwards (n < 0).
SOFTGPU_LANE uint32_t fns(uint32_t mask, uint32_t base, int32_t n) {
    if (base > 31) return 0xffffffffu;  // undefined in PTX
    if (n == 0) return (mask >> base & 1) != 0 ? base : 0xffffffffu;
    const bool up = n > 0;
    uint32_t left = up ? mask >> base << base : mask << (31 - base) >> (31 - base);
    for (uint64_t skip = (up ? int64_t{n} : -int64_t{n}) - 1; skip != 0 && left != 0; --skip) {
        left = up ? left & (left - 1) : left & ~(0x80000000u >> std::countl_zero(left));
    }
    if (left == 0) return 0xffffffffu;
    return static_cast<uint32_t>(up ? std::countr_zero(left) : 31 - std::countl_zero(left));
}

// bfe and bfi use 8 bits of position and length. PTX leaves larger operands undefined; ptxas masks them for 32-bit
// fields and clamps them for 64-bit ones, and so does this.
template <typename T>
SOFTGPU_LANE uint32_t field_operand(uint32_t value) {
    return sizeof(T) == 4 ? value & 0xff : (value < 64 ? value : 64);
}

// Bit field extract. T: u32, u64, s32, s64 (signed ones extend the field's sign).
template <typename T>
SOFTGPU_LANE T bfe(T a, uint32_t position, uint32_t length) {
    using U = std::make_unsigned_t<T>;
    constexpr uint32_t width = sizeof(T) * 8;
    position = field_operand<T>(position);
    length = field_operand<T>(length);
    // Sign-extending a first makes every bit beyond the top equal to the top one, as the definition asks.
    const uint32_t shift = position < width - 1 ? position : width - 1;
    const T shifted = static_cast<T>(a >> shift);
    const U above = std::is_signed_v<T> ? static_cast<U>(shifted) : (position < width ? static_cast<U>(shifted) : U{0});
    const uint32_t kept = length < width ? length : width;
    if constexpr (std::is_signed_v<T>) {
        const uint32_t unused = width - (kept == 0 ? 1 : kept);
        const T extended = static_cast<T>(static_cast<T>(above << unused) >> unused);
        return kept == 0 ? T{0} : extended;
    } else {
        const U mask = kept == width ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << (kept % width)) - 1);
        return static_cast<T>(above & mask);
    }
}

// Bit field insert: `length` low bits of a into b at `position`.
template <Bits T>
SOFTGPU_LANE T bfi(T a, T b, uint32_t position, uint32_t length) {
    constexpr uint32_t width = sizeof(T) * 8;
    position = field_operand<T>(position);
    length = field_operand<T>(length);
    const T field = length >= width ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << (length % width)) - 1);
    const uint32_t shift = position % width;
    const T mask = static_cast<T>(field << shift);
    const T result = static_cast<T>((b & ~mask) | (static_cast<T>(a << shift) & mask));
    return position >= width ? b : result;
}

template <bool Clamp>
SOFTGPU_LANE uint32_t bmsk(uint32_t position, uint32_t width) {
    if (Clamp && position >= 32) return 0;
    const uint32_t from = position & 31;
    const uint32_t count = width & 31;
    const uint32_t start = ~0u << from;
    const bool to_top = from + count >= 32 || (Clamp && width >= 32);
    return to_top ? start : start & ~(~0u << (from + count));
}

// Sign- or zero-extend the low `width` bits. T: u32 or s32.
template <bool Clamp, typename T>
SOFTGPU_LANE T szext(T a, uint32_t width) {
    const uint32_t count = width & 31;
    const uint32_t mask = Clamp && width >= 32 ? 0 : ~0u << count;
    const uint32_t value = static_cast<uint32_t>(a);
    const bool negative = std::is_signed_v<T> && count != 0 && mask != 0 && (value >> ((count - 1) & 31) & 1) != 0;
    return static_cast<T>((value & ~mask) | (negative ? mask : 0));
}

enum class Permutation : uint8_t { generic, f4e, b4e, rc8, ecl, ecr, rc16 };

// prmt: four bytes out of {b, a}. In the generic form bit 3 of a selector replicates the byte's sign.
template <Permutation Mode = Permutation::generic>
SOFTGPU_LANE uint32_t prmt(uint32_t a, uint32_t b, uint32_t control) {
    const uint64_t source = uint64_t{b} << 32 | a;
    uint32_t selectors = control;
    if constexpr (Mode != Permutation::generic) {
        // Row c of each table holds the selectors of bytes 3, 2, 1, 0 as hexadecimal digits (PTX ISA "prmt", table).
        constexpr uint16_t table[7][4] = {
            {},                                // generic
            {0x3210, 0x4321, 0x5432, 0x6543},  // f4e
            {0x5670, 0x6701, 0x7012, 0x0123},  // b4e
            {0x0000, 0x1111, 0x2222, 0x3333},  // rc8
            {0x3210, 0x3211, 0x3222, 0x3333},  // ecl
            {0x0000, 0x1110, 0x2210, 0x3210},  // ecr
            {0x1010, 0x3232, 0x1010, 0x3232},  // rc16
        };
        selectors = table[static_cast<int>(Mode)][control & 3];
    }
    uint32_t result = 0;
    for (int byte = 0; byte < 4; ++byte) {
        const uint32_t selector = selectors >> (4 * byte) & 0xf;
        const uint32_t literal = static_cast<uint32_t>(source >> (8 * (selector & 7))) & 0xff;
        const uint32_t sign = (literal & 0x80) != 0 ? 0xffu : 0u;
        result |= ((selector & 8) != 0 ? sign : literal) << (8 * byte);
    }
    return result;
}

// lop3: any function of three inputs. Bit (4a + 2b + c) of `table` is the result. The table is constant in PTX text,
// so a handler may switch over it; this form is branch-free for a run-time table.
template <Bits T>
SOFTGPU_LANE T lop3(T a, T b, T c, uint32_t table) {
    const auto term = [&](uint32_t index, T minterm) -> T { return (table >> index & 1) != 0 ? minterm : T{0}; };
    return static_cast<T>(term(0, ~a & ~b & ~c) | term(1, ~a & ~b & c) | term(2, ~a & b & ~c) | term(3, ~a & b & c) |
                          term(4, a & ~b & ~c) | term(5, a & ~b & c) | term(6, a & b & ~c) | term(7, a & b & c));
}

// cnot: logical negation, C style.
template <Bits T>
SOFTGPU_LANE T cnot(T a) {
    return a == 0 ? T{1} : T{0};
}

// Shifts clamp: an amount of the width or more shifts everything out. T of shr may be signed.
template <typename T>
SOFTGPU_LANE T shl(T a, uint32_t amount) {
    using U = std::make_unsigned_t<T>;
    constexpr uint32_t width = sizeof(T) * 8;
    const U shifted = static_cast<U>(static_cast<U>(a) << (amount & (width - 1)));
    return static_cast<T>(amount < width ? shifted : U{0});
}
template <typename T>
SOFTGPU_LANE T shr(T a, uint32_t amount) {
    constexpr uint32_t width = sizeof(T) * 8;
    if constexpr (std::is_signed_v<T>) {
        return static_cast<T>(a >> (amount < width ? amount : width - 1));
    } else {
        const T shifted = static_cast<T>(a >> (amount & (width - 1)));
        return amount < width ? shifted : T{0};
    }
}

// Funnel shifts of {b, a}: l gives the upper word of the left shift, r the lower word of the right shift.
template <bool Clamp>
SOFTGPU_LANE uint32_t shf_l(uint32_t a, uint32_t b, uint32_t amount) {
    const uint32_t n = Clamp ? (amount < 32 ? amount : 32) : amount & 31;
    return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> (32 - n));
}
template <bool Clamp>
SOFTGPU_LANE uint32_t shf_r(uint32_t a, uint32_t b, uint32_t amount) {
    const uint32_t n = Clamp ? (amount < 32 ? amount : 32) : amount & 31;
    return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> n);
}

}  // namespace softgpu::arithmetic
