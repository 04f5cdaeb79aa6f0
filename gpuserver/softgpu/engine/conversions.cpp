// Conversions that are not worth vectorising: directed rounding, saturation, halves, packed and narrow formats.
#include "engine/arithmetic/arithmetic.h"
#include "engine/mapping.h"
#include "engine/shape.h"

namespace softgpu {

namespace {

namespace ar = arithmetic;
using ar::Rounding;
using ptx::Type;

template <auto F, typename D, typename... S>
struct Lane {
    SOFTGPU_LANE static D of(S... operands) { return F(operands...); }
};

// 8-bit values live in 16-bit lanes, extended as their type says.
template <typename T>
struct Held {
    using type = T;
};
template <>
struct Held<int8_t> {
    using type = int16_t;
};
template <>
struct Held<uint8_t> {
    using type = uint16_t;
};

template <typename To, Rounding R, bool Ftz, bool Sat, typename From>
typename Held<To>::type convert(typename Held<From>::type a) {
    return static_cast<typename Held<To>::type>(ar::cvt<To, R, Ftz, Sat>(static_cast<From>(a)));
}
template <typename T, Rounding R, bool Ftz, bool Sat>
T integral(T a) {
    return ar::cvt_integral<R, Ftz, Sat>(a);
}

template <typename To, Rounding R, bool Ftz, bool Sat, typename From>
constexpr Handler conversion = &map1<Lane<&convert<To, R, Ftz, Sat, From>, typename Held<To>::type, typename Held<From>::type>,
                                     typename Held<To>::type, typename Held<From>::type, false>;

template <bool Ftz, bool Sat, typename To, typename From>
Handler by_rounding(RoundingMode r) {
    switch (r) {
        case RoundingMode::rn:
            return conversion<To, Rounding::rn, Ftz, Sat, From>;
        case RoundingMode::rz:
            return conversion<To, Rounding::rz, Ftz, Sat, From>;
        case RoundingMode::rm:
            return conversion<To, Rounding::rm, Ftz, Sat, From>;
        case RoundingMode::rp:
            return conversion<To, Rounding::rp, Ftz, Sat, From>;
        default:
            return nullptr;
    }
}

template <typename To, typename From>
Handler integer_to_integer() {
    return conversion<To, Rounding::rn, false, true, From>;
}

template <typename From>
Handler saturate_from(Type to) {
    switch (to) {
        case Type::u8:
            return integer_to_integer<uint8_t, From>();
        case Type::s8:
            return integer_to_integer<int8_t, From>();
        case Type::u16:
            return integer_to_integer<uint16_t, From>();
        case Type::s16:
            return integer_to_integer<int16_t, From>();
        case Type::u32:
            return integer_to_integer<uint32_t, From>();
        case Type::s32:
            return integer_to_integer<int32_t, From>();
        case Type::u64:
            return integer_to_integer<uint64_t, From>();
        case Type::s64:
            return integer_to_integer<int64_t, From>();
        default:
            return nullptr;
    }
}

template <typename From>
Handler integer_to_float(const Shape& s) {
    switch (s.type) {
        case Type::f16:
            return s.sat ? by_rounding<false, true, ar::f16, From>(s.rounding) : by_rounding<false, false, ar::f16, From>(s.rounding);
        case Type::bf16:
            return s.sat ? by_rounding<false, true, ar::bf16, From>(s.rounding) : by_rounding<false, false, ar::bf16, From>(s.rounding);
        case Type::f32:
            return s.sat ? by_rounding<false, true, float, From>(s.rounding) : by_rounding<false, false, float, From>(s.rounding);
        case Type::f64:
            return s.sat ? by_rounding<false, true, double, From>(s.rounding) : by_rounding<false, false, double, From>(s.rounding);
        default:
            return nullptr;
    }
}

template <typename From, bool Ftz>
Handler float_to_integer(const Shape& s) {
    switch (s.type) {
        case Type::u8:
            return by_rounding<Ftz, false, uint8_t, From>(s.rounding);
        case Type::s8:
            return by_rounding<Ftz, false, int8_t, From>(s.rounding);
        case Type::u16:
            return by_rounding<Ftz, false, uint16_t, From>(s.rounding);
        case Type::s16:
            return by_rounding<Ftz, false, int16_t, From>(s.rounding);
        case Type::u32:
            return by_rounding<Ftz, false, uint32_t, From>(s.rounding);
        case Type::s32:
            return by_rounding<Ftz, false, int32_t, From>(s.rounding);
        case Type::u64:
            return by_rounding<Ftz, false, uint64_t, From>(s.rounding);
        case Type::s64:
            return by_rounding<Ftz, false, int64_t, From>(s.rounding);
        default:
            return nullptr;
    }
}

template <typename T, Rounding R>
Handler integral_of(const Shape& s) {
    if (s.ftz)
        return s.sat ? &map1<Lane<&integral<T, R, true, true>, T, T>, T, T, false>
                     : &map1<Lane<&integral<T, R, true, false>, T, T>, T, T, false>;
    return s.sat ? &map1<Lane<&integral<T, R, false, true>, T, T>, T, T, false>
                 : &map1<Lane<&integral<T, R, false, false>, T, T>, T, T, false>;
}

template <typename T>
Handler find_integral(const Shape& s) {
    switch (s.rounding) {
        case RoundingMode::rn:
            return integral_of<T, Rounding::rn>(s);
        case RoundingMode::rz:
            return integral_of<T, Rounding::rz>(s);
        case RoundingMode::rm:
            return integral_of<T, Rounding::rm>(s);
        case RoundingMode::rp:
            return integral_of<T, Rounding::rp>(s);
        default:
            return nullptr;
    }
}

template <typename To, typename From>
Handler float_to_float(const Shape& s) {
    if (s.ftz) return s.sat ? by_rounding<true, true, To, From>(s.rounding) : by_rounding<true, false, To, From>(s.rounding);
    return s.sat ? by_rounding<false, true, To, From>(s.rounding) : by_rounding<false, false, To, From>(s.rounding);
}

template <typename From>
Handler float_to(const Shape& s) {
    if (s.integral) return find_integral<From>(s);
    switch (s.type) {
        case Type::f16:
            return float_to_float<ar::f16, From>(s);
        case Type::bf16:
            return float_to_float<ar::bf16, From>(s);
        case Type::f32:
            return float_to_float<float, From>(s);
        case Type::f64:
            return float_to_float<double, From>(s);
        default:
            if constexpr (std::is_same_v<From, float>)
                return s.ftz ? float_to_integer<From, true>(s) : float_to_integer<From, false>(s);
            return float_to_integer<From, false>(s);
    }
}

// --- narrow formats
template <Rounding R, bool Relu, bool Satfinite>
uint32_t tf32(float a) {
    return ar::cvt_tf32<R, Relu, Satfinite>(a);
}
template <typename T, Rounding R, bool Relu, bool Satfinite>
T half(float a) {
    return ar::cvt_half<T, R, Relu, Satfinite>(a);
}
template <typename P, Rounding R, bool Relu, bool Satfinite>
P half_pair(float a, float b) {
    return ar::cvt_half_pair<P, R, Relu, Satfinite>(a, b);
}
template <typename Format, bool Relu>
uint16_t encode(float a, float b) {
    return static_cast<uint16_t>(ar::encode_pair<Format, Relu>(a, b));
}
template <typename Format, bool Relu>
uint16_t encode_halves(ar::f16x2 a) {
    return static_cast<uint16_t>(ar::encode_pair<Format, Relu>(a));
}
template <typename Format, bool Relu>
ar::f16x2 decode(uint16_t a) {
    return ar::decode_pair<Format, Relu>(a);
}
template <Rounding R, bool Satfinite>
uint16_t encode_scale(float a, float b) {
    return static_cast<uint16_t>(ar::encode_ue8m0_pair<R, Satfinite>(a, b));
}
template <Rounding R, bool Satfinite>
uint16_t encode_scale_halves(ar::bf16x2 a) {
    return static_cast<uint16_t>(ar::encode_ue8m0_pair<R, Satfinite>(a));
}
ar::bf16x2 decode_scale(uint16_t a) { return ar::decode_ue8m0_pair(a); }

template <auto F, typename D, typename A>
constexpr Handler one = &map1<Lane<F, D, A>, D, A, false>;
template <auto F, typename D, typename A, typename B>
constexpr Handler two = &map2<Lane<F, D, A, B>, D, A, B, false>;

template <Rounding R>
Handler find_tf32(const Shape& s) {
    if (s.relu) return s.satfinite ? one<&tf32<R, true, true>, uint32_t, float> : one<&tf32<R, true, false>, uint32_t, float>;
    return s.satfinite ? one<&tf32<R, false, true>, uint32_t, float> : one<&tf32<R, false, false>, uint32_t, float>;
}

template <typename T, Rounding R>
Handler find_half(const Shape& s) {
    if (s.relu) return s.satfinite ? one<&half<T, R, true, true>, T, float> : one<&half<T, R, true, false>, T, float>;
    return s.satfinite ? one<&half<T, R, false, true>, T, float> : one<&half<T, R, false, false>, T, float>;
}

template <typename P, Rounding R>
Handler find_half_pair(const Shape& s) {
    if (s.relu)
        return s.satfinite ? two<&half_pair<P, R, true, true>, P, float, float> : two<&half_pair<P, R, true, false>, P, float, float>;
    return s.satfinite ? two<&half_pair<P, R, false, true>, P, float, float> : two<&half_pair<P, R, false, false>, P, float, float>;
}

template <typename Format>
Handler find_mini(const Shape& s) {
    if (s.from == Type::f32) return s.relu ? two<&encode<Format, true>, uint16_t, float, float> : two<&encode<Format, false>, uint16_t, float, float>;
    if (s.from == Type::f16x2) return s.relu ? one<&encode_halves<Format, true>, uint16_t, ar::f16x2> : one<&encode_halves<Format, false>, uint16_t, ar::f16x2>;
    return nullptr;
}
template <typename Format>
Handler find_unmini(const Shape& s) {
    if (s.type != Type::f16x2) return nullptr;
    return s.relu ? one<&decode<Format, true>, ar::f16x2, uint16_t> : one<&decode<Format, false>, ar::f16x2, uint16_t>;
}
template <Rounding R>
Handler find_scale(const Shape& s) {
    if (s.from == Type::f32)
        return s.satfinite ? two<&encode_scale<R, true>, uint16_t, float, float> : two<&encode_scale<R, false>, uint16_t, float, float>;
    if (s.from == Type::bf16x2)
        return s.satfinite ? one<&encode_scale_halves<R, true>, uint16_t, ar::bf16x2> : one<&encode_scale_halves<R, false>, uint16_t, ar::bf16x2>;
    return nullptr;
}

template <unsigned Width, bool Signed>
uint32_t packed(int32_t a, int32_t b, uint32_t c) {
    return ar::cvt_pack<Width, Signed>(a, b, c);
}
template <unsigned Width, bool Signed>
constexpr Handler packing = &map3<Lane<&packed<Width, Signed>, uint32_t, int32_t, int32_t, uint32_t>, uint32_t, int32_t, int32_t, uint32_t, false>;

Handler find_pack_conversion(const Shape& s) {
    switch (s.width) {
        case 16:
            return s.signed_result ? packing<16, true> : packing<16, false>;
        case 8:
            return s.signed_result ? packing<8, true> : packing<8, false>;
        case 4:
            return s.signed_result ? packing<4, true> : packing<4, false>;
        case 2:
            return s.signed_result ? packing<2, true> : packing<2, false>;
        default:
            return nullptr;
    }
}

Handler find_narrow(const Shape& s) {
    const bool rz = s.rounding == RoundingMode::rz;
    switch (s.from) {
        case Type::e4m3x2:
            return find_unmini<ar::e4m3>(s);
        case Type::e5m2x2:
            return find_unmini<ar::e5m2>(s);
        case Type::e2m3x2:
            return find_unmini<ar::e2m3>(s);
        case Type::e3m2x2:
            return find_unmini<ar::e3m2>(s);
        case Type::e2m1x2:
            return find_unmini<ar::e2m1>(s);
        case Type::ue8m0x2:
            return s.type == Type::bf16x2 ? one<&decode_scale, ar::bf16x2, uint16_t> : nullptr;
        default:
            break;
    }
    switch (s.type) {
        case Type::tf32:
            if (s.rounding == RoundingMode::rna) return find_tf32<Rounding::rna>(s);
            return rz ? find_tf32<Rounding::rz>(s) : find_tf32<Rounding::rn>(s);
        case Type::f16x2:
            if (s.from != Type::f32) return nullptr;
            return rz ? find_half_pair<ar::f16x2, Rounding::rz>(s) : find_half_pair<ar::f16x2, Rounding::rn>(s);
        case Type::bf16x2:
            if (s.from != Type::f32) return nullptr;
            return rz ? find_half_pair<ar::bf16x2, Rounding::rz>(s) : find_half_pair<ar::bf16x2, Rounding::rn>(s);
        case Type::e4m3x2:
            return find_mini<ar::e4m3>(s);
        case Type::e5m2x2:
            return find_mini<ar::e5m2>(s);
        case Type::e2m3x2:
            return find_mini<ar::e2m3>(s);
        case Type::e3m2x2:
            return find_mini<ar::e3m2>(s);
        case Type::e2m1x2:
            return find_mini<ar::e2m1>(s);
        case Type::ue8m0x2:
            return rz ? find_scale<Rounding::rz>(s) : find_scale<Rounding::rp>(s);
        case Type::f16:
            if (s.from == Type::f32 && (s.relu || s.satfinite))
                return rz ? find_half<ar::f16, Rounding::rz>(s) : find_half<ar::f16, Rounding::rn>(s);
            return nullptr;
        case Type::bf16:
            if (s.from == Type::f32 && (s.relu || s.satfinite))
                return rz ? find_half<ar::bf16, Rounding::rz>(s) : find_half<ar::bf16, Rounding::rn>(s);
            return nullptr;
        default:
            return nullptr;
    }
}

}  // namespace

Handler find_conversion(const Shape& s) {
    if (s.variant == 3) return find_pack_conversion(s);
    if (Handler h = find_narrow(s)) return h;
    if (s.variant == 1) return nullptr;  // two operands
    const bool to_integer = !ptx::is_float(s.type);
    switch (s.from) {
#define CASE(name, T) \
    case Type::name:  \
        return to_integer ? saturate_from<T>(s.type) : integer_to_float<T>(s);
        CASE(u8, uint8_t)
        CASE(s8, int8_t)
        CASE(u16, uint16_t)
        CASE(s16, int16_t)
        CASE(u32, uint32_t)
        CASE(s32, int32_t)
        CASE(u64, uint64_t)
        CASE(s64, int64_t)
#undef CASE
        case Type::f16:
            return float_to<ar::f16>(s);
        case Type::bf16:
            return float_to<ar::bf16>(s);
        case Type::f32:
            return float_to<float>(s);
        case Type::f64:
            return float_to<double>(s);
        default:
            return nullptr;
    }
}

}  // namespace softgpu
