// Elementwise forms that are not worth vectorising: directed rounding, saturation, NaN rules, packed halves with
// flags, bit fields, dot products.
#include "engine/arithmetic/arithmetic.h"
#include "engine/mapping.h"
#include "engine/shape.h"

namespace softgpu {

namespace {

namespace ar = arithmetic;
using ar::Rounding;
using ptx::Opcode;
using ptx::Type;

template <auto F, typename D, typename... S>
struct Lane {
    SOFTGPU_LANE static D of(S... operands) { return F(operands...); }
};
template <auto F, typename D, typename A>
constexpr Handler unary = &map1<Lane<F, D, A>, D, A, false>;
template <auto F, typename D, typename A, typename B>
constexpr Handler binary = &map2<Lane<F, D, A, B>, D, A, B, false>;
template <auto F, typename D, typename A, typename B, typename C>
constexpr Handler ternary = &map3<Lane<F, D, A, B, C>, D, A, B, C, false>;

template <typename T>
struct Integers {
    static T add_sat(T a, T b) { return ar::add<true>(a, b); }
    static T sub_sat(T a, T b) { return ar::sub<true>(a, b); }
    static T mad_hi_sat(T a, T b, T c) { return ar::mad_hi<true>(a, b, c); }
    static T min_relu(T a, T b) { return ar::min<true>(a, b); }
    static T max_relu(T a, T b) { return ar::max<true>(a, b); }
    static T mul24_lo(T a, T b) { return ar::mul24_lo(a, b); }
    static T mul24_hi(T a, T b) { return ar::mul24_hi(a, b); }
    static T mad24_lo(T a, T b, T c) { return ar::mad24_lo(a, b, c); }
    static T mad24_hi(T a, T b, T c) { return ar::mad24_hi(a, b, c); }
    static T mad24_hi_sat(T a, T b, T c) { return ar::mad24_hi<true>(a, b, c); }
    static uint32_t bfind(T a) { return ar::bfind<false>(a); }
    static uint32_t bfind_shift(T a) { return ar::bfind<true>(a); }
    static T szext_clamp(T a, uint32_t b) { return ar::szext<true>(a, b); }
    static T szext_wrap(T a, uint32_t b) { return ar::szext<false>(a, b); }
};

template <typename T>
struct Pairs {
    static T add(T a, T b) { return ar::add(a, b); }
    static T sub(T a, T b) { return ar::sub(a, b); }
    static T neg(T a) { return ar::neg(a); }
    static T min(T a, T b) { return ar::min(a, b); }
    static T max(T a, T b) { return ar::max(a, b); }
    static T min_relu(T a, T b) { return ar::min<true>(a, b); }
    static T max_relu(T a, T b) { return ar::max<true>(a, b); }
};

// --- 32-bit bit operations
uint32_t bmsk_clamp(uint32_t a, uint32_t b) { return ar::bmsk<true>(a, b); }
uint32_t bmsk_wrap(uint32_t a, uint32_t b) { return ar::bmsk<false>(a, b); }
uint32_t fns(uint32_t a, uint32_t b, int32_t n) { return ar::fns(a, b, n); }
template <ar::Permutation Mode>
uint32_t prmt(uint32_t a, uint32_t b, uint32_t c) {
    return ar::prmt<Mode>(a, b, c);
}
template <bool Right, bool Clamp>
uint32_t funnel(uint32_t a, uint32_t b, uint32_t c) {
    if constexpr (Right)
        return ar::shf_r<Clamp>(a, b, c);
    else
        return ar::shf_l<Clamp>(a, b, c);
}
template <typename A, typename B>
uint32_t dot4(uint32_t a, uint32_t b, uint32_t c) {
    return ar::dp4a<A, B>(a, b, c);
}
template <bool High, typename A, typename B>
uint32_t dot2(uint32_t a, uint32_t b, uint32_t c) {
    return ar::dp2a<High, A, B>(a, b, c);
}

// bfi has four operands: the length is in extra[0].
template <typename T>
void bfi(Context& c, const Inst& i, uint32_t mask) {
    T* d = out<T>(c, i.d);
    const T* a = in<T>(c, i.a);
    const T* b = in<T>(c, i.b);
    const uint32_t* position = in<uint32_t>(c, i.c);
    const uint32_t* length = in<uint32_t>(c, c.code->extra[i.extra]);
    for_lanes(mask, [&](uint32_t l) { d[l] = ar::bfi<T>(a[l], b[l], position[l], length[l]); });
}

template <ar::FloatClass P, typename T>
void test_class(Context& c, const Inst& i, uint32_t mask) {
    const Raw<T>* a = in<Raw<T>>(c, i.a);
    uint32_t result = 0;
    for_lanes(mask, [&](uint32_t l) { result |= ar::test<P>(value_of<T>(a[l])) ? lane_bit[l] : 0; });
    if (i.d != nothing) set_predicate(c, i.d, mask, result);
}

template <typename T>
Handler find_test(uint8_t which) {
    switch (which) {
        case 0:
            return &test_class<ar::FloatClass::finite, T>;
        case 1:
            return &test_class<ar::FloatClass::infinite, T>;
        case 2:
            return &test_class<ar::FloatClass::number, T>;
        case 3:
            return &test_class<ar::FloatClass::notanumber, T>;
        case 4:
            return &test_class<ar::FloatClass::normal, T>;
        default:
            return &test_class<ar::FloatClass::subnormal, T>;
    }
}

// --- floating point, with every flag
template <typename T, Rounding R, bool Ftz, bool Sat>
struct Floats {
    static T add(T a, T b) { return ar::add<R, Ftz, Sat>(a, b); }
    static T sub(T a, T b) { return ar::sub<R, Ftz, Sat>(a, b); }
    static T mul(T a, T b) { return ar::mul<R, Ftz, Sat>(a, b); }
    static T fma(T a, T b, T c) { return ar::fma<R, Ftz, Sat>(a, b, c); }
    static T div(T a, T b) { return ar::div<R, Ftz>(a, b); }
    static T rcp(T a) { return ar::rcp<R, Ftz>(a); }
    static T sqrt(T a) { return ar::sqrt<R, Ftz>(a); }
};
template <typename T, bool Ftz, bool Relu>
struct HalfFma {
    static T fma(T a, T b, T c) { return ar::fma<Rounding::rn, Ftz, false, Relu>(a, b, c); }
    static T fma_oob(T a, T b, T c) { return ar::fma_oob<Rounding::rn, Relu>(a, b, c); }
};
template <typename T, bool Ftz, bool Nan, bool Xor>
struct Extremes {
    static T min(T a, T b) { return ar::min<Ftz, Nan, Xor>(a, b); }
    static T max(T a, T b) { return ar::max<Ftz, Nan, Xor>(a, b); }
};
template <typename T, bool Ftz, bool Nan, bool Xor>
struct Extremes3 {
    static T min3(T a, T b, T c) { return ar::min<Ftz, Nan, Xor>(a, b, c); }
    static T max3(T a, T b, T c) { return ar::max<Ftz, Nan, Xor>(a, b, c); }
};
template <typename T, bool Ftz>
struct Unaries {
    static T neg(T a) { return ar::neg<Ftz>(a); }
    static T abs(T a) { return ar::abs<Ftz>(a); }
    static T ex2(T a) { return ar::ex2_approx<Ftz>(a); }
    static T tanh(T a) { return ar::tanh_approx(a); }
};
double rcp_f64(double a) { return ar::rcp_approx_f64(a); }
double rsqrt_f64(double a) { return ar::rsqrt_approx_f64(a); }
template <typename T>
T copysign(T a, T b) {
    return ar::copysign(a, b);
}
template <ar::Comparison C>
struct HalfCompare {
    template <typename T>
    SOFTGPU_LANE static bool of(T a, T b) {
        return ar::compare<C, true>(a, b);
    }
};

template <typename T, Rounding R, bool Ftz, bool Sat>
Handler find_float_op(Opcode op) {
    using F = Floats<T, R, Ftz, Sat>;
    switch (op) {
        case Opcode::add:
            return binary<&F::add, T, T, T>;
        case Opcode::sub:
            return binary<&F::sub, T, T, T>;
        case Opcode::mul:
            return binary<&F::mul, T, T, T>;
        case Opcode::fma:
        case Opcode::mad:
            return ternary<&F::fma, T, T, T, T>;
        default:
            break;
    }
    if constexpr (std::is_floating_point_v<T> && !Sat) {
        switch (op) {
            case Opcode::div:
                return binary<&F::div, T, T, T>;
            case Opcode::rcp:
                return unary<&F::rcp, T, T>;
            case Opcode::sqrt:
                return unary<&F::sqrt, T, T>;
            default:
                break;
        }
    }
    return nullptr;
}

template <typename T, bool Ftz, bool Sat>
Handler find_rounded(const Shape& s) {
    switch (s.rounding) {
        case RoundingMode::rn:
            return find_float_op<T, Rounding::rn, Ftz, Sat>(s.op);
        case RoundingMode::rz:
            return find_float_op<T, Rounding::rz, Ftz, Sat>(s.op);
        case RoundingMode::rm:
            return find_float_op<T, Rounding::rm, Ftz, Sat>(s.op);
        case RoundingMode::rp:
            return find_float_op<T, Rounding::rp, Ftz, Sat>(s.op);
        default:
            return nullptr;
    }
}

template <typename T, bool Ftz, bool Nan, bool Xor>
Handler find_extreme(const Shape& s) {
    using E = Extremes<T, Ftz, Nan, Xor>;
    const bool min = s.op == Opcode::min;
    if constexpr (std::is_same_v<T, float> && !Xor) {
        using E3 = Extremes3<T, Ftz, Nan, Xor>;
        if (s.variant == 1) return min ? ternary<&E3::min3, T, T, T, T> : ternary<&E3::max3, T, T, T, T>;
    }
    if (s.variant == 1) return nullptr;
    return min ? binary<&E::min, T, T, T> : binary<&E::max, T, T, T>;
}

template <typename T, bool Ftz>
Handler find_extreme_flags(const Shape& s) {
    if (s.nan) return s.xorsign ? find_extreme<T, Ftz, true, true>(s) : find_extreme<T, Ftz, true, false>(s);
    return s.xorsign ? find_extreme<T, Ftz, false, true>(s) : find_extreme<T, Ftz, false, false>(s);
}

template <typename T>
Handler find_half(const Shape& s) {
    if (s.op == Opcode::min || s.op == Opcode::max)
        return s.ftz ? find_extreme_flags<T, true>(s) : find_extreme_flags<T, false>(s);
    if (s.op == Opcode::fma && s.oob) {
        if (s.relu) return ternary<&HalfFma<T, false, true>::fma_oob, T, T, T, T>;
        return ternary<&HalfFma<T, false, false>::fma_oob, T, T, T, T>;
    }
    if (s.op == Opcode::fma && s.relu) {
        if (s.ftz) return ternary<&HalfFma<T, true, true>::fma, T, T, T, T>;
        return ternary<&HalfFma<T, false, true>::fma, T, T, T, T>;
    }
    switch (s.op) {
        case Opcode::neg:
            return unary<&Unaries<T, true>::neg, T, T>;
        case Opcode::abs:
            return unary<&Unaries<T, true>::abs, T, T>;
        case Opcode::ex2:
            return s.ftz ? unary<&Unaries<T, true>::ex2, T, T> : unary<&Unaries<T, false>::ex2, T, T>;
        case Opcode::tanh:
            return unary<&Unaries<T, false>::tanh, T, T>;
        default:
            break;
    }
    if constexpr (sizeof(T) == 2) {
        if (s.op == Opcode::setp) {
            switch (s.compare) {
#define CASE(name)      \
    case Compare::name: \
        return &compare_lanes<HalfCompare<ar::Comparison::name>, T>;
                CASE(eq) CASE(ne) CASE(lt) CASE(le) CASE(gt) CASE(ge) CASE(equ) CASE(neu) CASE(ltu) CASE(leu) CASE(gtu)
                CASE(geu) CASE(num) CASE(nan)
#undef CASE
            }
        }
    }
    if (s.ftz) return s.sat ? find_float_op<T, Rounding::rn, true, true>(s.op) : find_float_op<T, Rounding::rn, true, false>(s.op);
    return s.sat ? find_float_op<T, Rounding::rn, false, true>(s.op) : find_float_op<T, Rounding::rn, false, false>(s.op);
}

Handler find_f32(const Shape& s) {
    switch (s.op) {
        case Opcode::min:
        case Opcode::max:
            return s.ftz ? find_extreme_flags<float, true>(s) : find_extreme_flags<float, false>(s);
        case Opcode::tanh:
            return unary<&Unaries<float, false>::tanh, float, float>;
        case Opcode::copysign:
            return binary<&copysign<float>, float, float, float>;
        case Opcode::testp:
            return find_test<float>(s.variant);
        default:
            break;
    }
    if (s.ftz) return s.sat ? find_rounded<float, true, true>(s) : find_rounded<float, true, false>(s);
    return s.sat ? find_rounded<float, false, true>(s) : find_rounded<float, false, false>(s);
}

Handler find_f64(const Shape& s) {
    switch (s.op) {
        case Opcode::rcp:
            if (s.approx) return unary<&rcp_f64, double, double>;
            break;
        case Opcode::rsqrt:
            return unary<&rsqrt_f64, double, double>;
        case Opcode::copysign:
            return binary<&copysign<double>, double, double, double>;
        case Opcode::testp:
            return find_test<double>(s.variant);
        default:
            break;
    }
    return find_rounded<double, false, false>(s);
}

template <typename T>
Handler find_integer(const Shape& s) {
    using I = Integers<T>;
    constexpr bool word = sizeof(T) == 4;
    switch (s.op) {
        case Opcode::bfind:
            if constexpr (sizeof(T) >= 4) return s.variant ? unary<&I::bfind_shift, uint32_t, T> : unary<&I::bfind, uint32_t, T>;
            return nullptr;
        default:
            break;
    }
    if constexpr (word) {
        switch (s.op) {
            case Opcode::mul24:
                return s.variant ? binary<&I::mul24_hi, T, T, T> : binary<&I::mul24_lo, T, T, T>;
            case Opcode::mad24:
                if constexpr (std::is_signed_v<T>)
                    if (s.sat) return ternary<&I::mad24_hi_sat, T, T, T, T>;
                return s.variant ? ternary<&I::mad24_hi, T, T, T, T> : ternary<&I::mad24_lo, T, T, T, T>;
            case Opcode::szext:
                return s.variant ? binary<&I::szext_wrap, T, T, uint32_t> : binary<&I::szext_clamp, T, T, uint32_t>;
            default:
                break;
        }
        if constexpr (std::is_signed_v<T>) {
            switch (s.op) {
                case Opcode::add:
                    return binary<&I::add_sat, T, T, T>;
                case Opcode::sub:
                    return binary<&I::sub_sat, T, T, T>;
                case Opcode::mad:
                    return s.variant == 1 ? ternary<&I::mad_hi_sat, T, T, T, T> : nullptr;
                case Opcode::min:
                    return binary<&I::min_relu, T, T, T>;
                case Opcode::max:
                    return binary<&I::max_relu, T, T, T>;
                default:
                    break;
            }
        }
    }
    return nullptr;
}

template <typename T>
Handler find_pair(const Shape& s) {
    using P = Pairs<T>;
    switch (s.op) {
        case Opcode::add:
            return binary<&P::add, T, T, T>;
        case Opcode::sub:
            return binary<&P::sub, T, T, T>;
        case Opcode::neg:
            return unary<&P::neg, T, T>;
        case Opcode::min:
            return s.relu ? binary<&P::min_relu, T, T, T> : binary<&P::min, T, T, T>;
        case Opcode::max:
            return s.relu ? binary<&P::max_relu, T, T, T> : binary<&P::max, T, T, T>;
        default:
            return nullptr;
    }
}

template <typename A, typename B>
Handler find_dot(const Shape& s) {
    using W = uint32_t;
    if (s.op == Opcode::dp4a) return ternary<&dot4<A, B>, W, W, W, W>;
    return s.variant ? ternary<&dot2<true, A, B>, W, W, W, W> : ternary<&dot2<false, A, B>, W, W, W, W>;
}

Handler find_word(const Shape& s) {
    using W = uint32_t;
    switch (s.op) {
        case Opcode::bmsk:
            return s.variant ? binary<&bmsk_wrap, W, W, W> : binary<&bmsk_clamp, W, W, W>;
        case Opcode::fns:
            return ternary<&fns, W, W, W, int32_t>;
        case Opcode::bfi:
            return &bfi<uint32_t>;
        case Opcode::shf:
            switch (s.variant) {
                case 0:
                    return ternary<&funnel<false, true>, W, W, W, W>;
                case 1:
                    return ternary<&funnel<true, true>, W, W, W, W>;
                case 2:
                    return ternary<&funnel<false, false>, W, W, W, W>;
                default:
                    return ternary<&funnel<true, false>, W, W, W, W>;
            }
        case Opcode::prmt:
            switch (s.variant) {
                case 1:
                    return ternary<&prmt<ar::Permutation::f4e>, W, W, W, W>;
                case 2:
                    return ternary<&prmt<ar::Permutation::b4e>, W, W, W, W>;
                case 3:
                    return ternary<&prmt<ar::Permutation::rc8>, W, W, W, W>;
                case 4:
                    return ternary<&prmt<ar::Permutation::ecl>, W, W, W, W>;
                case 5:
                    return ternary<&prmt<ar::Permutation::ecr>, W, W, W, W>;
                default:
                    return ternary<&prmt<ar::Permutation::rc16>, W, W, W, W>;
            }
        default:
            return nullptr;
    }
}

}  // namespace

Handler find_rare(const Shape& s) {
    if (s.op == Opcode::dp4a || s.op == Opcode::dp2a) {
        const bool a = ptx::is_signed(s.type), b = ptx::is_signed(s.from);
        if (a) return b ? find_dot<int32_t, int32_t>(s) : find_dot<int32_t, uint32_t>(s);
        return b ? find_dot<uint32_t, int32_t>(s) : find_dot<uint32_t, uint32_t>(s);
    }
    switch (s.type) {
        case Type::b32:
            return find_word(s);
        case Type::b64:
            return s.op == Opcode::bfi ? &bfi<uint64_t> : nullptr;
        case Type::u32:
            if (s.op == Opcode::bmsk || s.op == Opcode::fns) return find_word(s);
            return find_integer<uint32_t>(s);
        case Type::s32:
            return find_integer<int32_t>(s);
        case Type::u64:
            return find_integer<uint64_t>(s);
        case Type::s64:
            return find_integer<int64_t>(s);
        case Type::u16x2:
            return find_pair<ar::u16x2>(s);
        case Type::s16x2:
            return find_pair<ar::s16x2>(s);
        case Type::f32:
            return find_f32(s);
        case Type::f64:
            return find_f64(s);
        case Type::f16:
            return find_half<ar::f16>(s);
        case Type::bf16:
            return find_half<ar::bf16>(s);
        case Type::f16x2:
            return find_half<ar::f16x2>(s);
        case Type::bf16x2:
            return find_half<ar::bf16x2>(s);
        case Type::f32x2:
            return s.ftz ? find_rounded<ar::f32x2, true, false>(s) : find_rounded<ar::f32x2, false, false>(s);
        default:
            return nullptr;
    }
}

}  // namespace softgpu
