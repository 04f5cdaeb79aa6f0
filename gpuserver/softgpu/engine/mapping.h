// Applies a scalar function to the lanes of a warp. Included inside an anonymous namespace's file only: every
// translation unit that includes it gets its own copies, compiled for its instruction set.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "engine/context.h"

namespace softgpu {
namespace {

template <size_t Bytes>
struct RawOf;
template <>
struct RawOf<1> {
    using type = uint8_t;
};
template <>
struct RawOf<2> {
    using type = uint16_t;
};
template <>
struct RawOf<4> {
    using type = uint32_t;
};
template <>
struct RawOf<8> {
    using type = uint64_t;
};
template <typename T>
using Raw = typename RawOf<sizeof(T)>::type;

template <typename T>
[[gnu::always_inline]] inline T value_of(Raw<T> raw) {
    return std::bit_cast<T>(raw);
}

// F::of(a...) for each lane. `Whole`: cheap and harmless on any value, so that partial warps compute all lanes and
// keep the others' old results; otherwise only the lanes of the mask are computed.
template <typename F, bool Whole, typename D, typename... S>
[[gnu::always_inline]] inline void each_lane(Context& c, const Inst& i, uint32_t mask, const Raw<S>*... sources) {
    Raw<D>* d = out<Raw<D>>(c, i.d);
    if (mask == all_lanes) {
#pragma GCC ivdep
        for (uint32_t l = 0; l < lanes; ++l) d[l] = std::bit_cast<Raw<D>>(F::of(value_of<S>(sources[l])...));
    } else if constexpr (Whole) {
#pragma GCC ivdep
        for (uint32_t l = 0; l < lanes; ++l) {
            Raw<D> result = std::bit_cast<Raw<D>>(F::of(value_of<S>(sources[l])...));
            Raw<D> old = d[l];
            d[l] = (mask & lane_bit[l]) ? result : old;
        }
    } else {
        for_lanes(mask, [&](uint32_t l) { d[l] = std::bit_cast<Raw<D>>(F::of(value_of<S>(sources[l])...)); });
    }
}

template <typename F, typename D, typename A, bool Whole = true>
void map1(Context& c, const Inst& i, uint32_t mask) {
    each_lane<F, Whole, D, A>(c, i, mask, in<Raw<A>>(c, i.a));
}
template <typename F, typename D, typename A, typename B, bool Whole = true>
void map2(Context& c, const Inst& i, uint32_t mask) {
    each_lane<F, Whole, D, A, B>(c, i, mask, in<Raw<A>>(c, i.a), in<Raw<B>>(c, i.b));
}
template <typename F, typename D, typename A, typename B, typename C, bool Whole = true>
void map3(Context& c, const Inst& i, uint32_t mask) {
    each_lane<F, Whole, D, A, B, C>(c, i, mask, in<Raw<A>>(c, i.a), in<Raw<B>>(c, i.b), in<Raw<C>>(c, i.c));
}

// Same for all operands of one type.
template <typename F, typename T, bool Whole = true>
constexpr Handler unary_of = &map1<F, T, T, Whole>;
template <typename F, typename T, bool Whole = true>
constexpr Handler binary_of = &map2<F, T, T, T, Whole>;
template <typename F, typename T, bool Whole = true>
constexpr Handler ternary_of = &map3<F, T, T, T, T, Whole>;

// A comparison's result: bit l for lane l. setp combines it with a predicate: kind 0 none, 1 and, 2 or, 3 xor;
// bit 2 of kind: the predicate is negated. Second destination in `extra` + imm: extra operand when imm is not 0.
inline void finish_compare(Context& c, const Inst& i, uint32_t mask, uint32_t result) {
    uint32_t p = result, q = ~result;
    if (i.kind != 0) {
        uint32_t other = predicate(c, i.c);
        if (i.kind & 4) other = ~other;
        switch (i.kind & 3) {
            case 1:
                p &= other, q &= other;
                break;
            case 2:
                p |= other, q |= other;
                break;
            case 3:
                p ^= other, q ^= other;
                break;
        }
    }
    if (i.d != nothing) set_predicate(c, i.d, mask, p);
    if (i.imm != 0) set_predicate(c, c.code->extra[i.extra], mask, q);
}

template <typename F, typename T>
void compare_lanes(Context& c, const Inst& i, uint32_t mask) {
    const Raw<T>* a = in<Raw<T>>(c, i.a);
    const Raw<T>* b = in<Raw<T>>(c, i.b);
    uint32_t result = 0;
    for (uint32_t l = 0; l < lanes; ++l)
        result |= F::of(value_of<T>(a[l]), value_of<T>(b[l])) ? lane_bit[l] : 0U;
    finish_compare(c, i, mask, result);
}

}  // namespace
}  // namespace softgpu
