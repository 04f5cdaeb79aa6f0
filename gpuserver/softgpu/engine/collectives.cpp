// Instructions in which the lanes of a warp work together: shfl, vote, match, redux, elect, activemask.
#include <algorithm>
#include <bit>

#include "engine/arithmetic/minmax.h"
#include "engine/context.h"
#include "engine/handlers.h"
#include "engine/warp.h"

namespace softgpu {

namespace {

// The lanes that take part: those of the membermask that are here.
uint32_t members_of(const Context& c, const Inst& i, uint32_t mask) {
    const uint32_t members = in<uint32_t>(c, c.code->extra[i.extra])[__builtin_ctz(mask)];
    return members & mask ? members & mask : mask;
}

int32_t second_of(const Context& c, const Inst& i) { return c.code->extra[i.extra + 1]; }

template <typename T, bool All>
void match(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t members = members_of(c, i, mask);
    const T* a = in<T>(c, i.a);
    uint32_t* d = out<uint32_t>(c, i.d);
    if constexpr (All) {
        const T first = a[__builtin_ctz(members)];
        bool same = true;
        for_lanes(members, [&](uint32_t l) { same &= a[l] == first; });
        for_lanes(mask, [&](uint32_t l) { d[l] = same ? members : 0; });
        if (second_of(c, i) != nothing) set_predicate(c, second_of(c, i), mask, same ? all_lanes : 0);
    } else {
        uint32_t result[lanes] = {};
        for (uint32_t left = members; left;) {
            const auto lane = static_cast<uint32_t>(__builtin_ctz(left));
            uint32_t same = 0;
            for_lanes(left, [&](uint32_t l) { same |= a[l] == a[lane] ? lane_bit[l] : 0; });
            for_lanes(same, [&](uint32_t l) { result[l] = same; });
            left &= ~same;
        }
        for_lanes(mask, [&](uint32_t l) { d[l] = result[l]; });
    }
}

}  // namespace

// PTX ISA "shfl": segments of lanes given by c, the source lane by mode and b.
void shuffle(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t* a = in<uint32_t>(c, i.a);
    const uint32_t* b = in<uint32_t>(c, i.b);
    const uint32_t* limit = in<uint32_t>(c, i.c);
    uint32_t* d = out<uint32_t>(c, i.d);
    uint32_t in_range = 0;
    for (uint32_t l = 0; l < lanes; ++l) {
        const uint32_t bval = b[l] & 31, cval = limit[l] & 31, segment = limit[l] >> 8 & 31;
        const uint32_t highest = (l & segment) | (cval & ~segment);
        const uint32_t lowest = l & segment;
        uint32_t source = l;
        bool inside = false;
        switch (i.kind) {
            case 0:
                source = l - bval;
                inside = static_cast<int32_t>(source) >= static_cast<int32_t>(highest);
                break;
            case 1:
                source = l + bval;
                inside = source <= highest;
                break;
            case 2:
                source = l ^ bval;
                inside = source <= highest;
                break;
            default:
                source = lowest | (bval & ~segment);
                inside = source <= highest;
                break;
        }
        if (!inside) source = l;
        const uint32_t value = a[source & 31];
        if (mask & lane_bit[l]) d[l] = value;
        if (inside) in_range |= lane_bit[l];
    }
    if (second_of(c, i) != nothing) set_predicate(c, second_of(c, i), mask, in_range);
}

void vote(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t members = members_of(c, i, mask);
    uint32_t p = predicate(c, i.a);
    if (i.kind & 4) p = ~p;
    p &= members;
    switch (i.kind & 3) {
        case 0:
            set_predicate(c, i.d, mask, p == members ? all_lanes : 0);
            break;
        case 1:
            set_predicate(c, i.d, mask, p ? all_lanes : 0);
            break;
        case 2:
            set_predicate(c, i.d, mask, p == members || p == 0 ? all_lanes : 0);
            break;
        default: {
            uint32_t* d = out<uint32_t>(c, i.d);
            for_lanes(mask, [&](uint32_t l) { d[l] = p; });
        }
    }
}

Handler find_match(bool all, uint32_t bytes) {
    if (bytes == 4) return all ? &match<uint32_t, true> : &match<uint32_t, false>;
    if (bytes == 8) return all ? &match<uint64_t, true> : &match<uint64_t, false>;
    return nullptr;
}

void reduce(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t members = members_of(c, i, mask);
    const uint32_t* a = in<uint32_t>(c, i.a);
    const auto lane = static_cast<uint32_t>(__builtin_ctz(members));
    auto operand = [&](uint32_t l) { return i.imm & 1 ? a[l] & 0x7fffffffU : a[l]; };
    uint32_t r = operand(lane);
    for_lanes(members & (members - 1), [&](uint32_t l) {
        const uint32_t v = operand(l);
        const float x = std::bit_cast<float>(r), y = std::bit_cast<float>(v);
        switch (static_cast<Reduction>(i.kind)) {
            case Reduction::add_u32:
                r += v;
                break;
            case Reduction::min_u32:
                r = std::min(r, v);
                break;
            case Reduction::max_u32:
                r = std::max(r, v);
                break;
            case Reduction::min_s32:
                r = static_cast<uint32_t>(std::min(static_cast<int32_t>(r), static_cast<int32_t>(v)));
                break;
            case Reduction::max_s32:
                r = static_cast<uint32_t>(std::max(static_cast<int32_t>(r), static_cast<int32_t>(v)));
                break;
            case Reduction::and_b32:
                r &= v;
                break;
            case Reduction::or_b32:
                r |= v;
                break;
            case Reduction::xor_b32:
                r ^= v;
                break;
            case Reduction::min_f32:
                r = std::bit_cast<uint32_t>(i.imm & 2 ? arithmetic::min<false, true>(x, y) : arithmetic::min(x, y));
                break;
            case Reduction::max_f32:
                r = std::bit_cast<uint32_t>(i.imm & 2 ? arithmetic::max<false, true>(x, y) : arithmetic::max(x, y));
                break;
        }
    });
    uint32_t* d = out<uint32_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = r; });
}

void active_mask(Context& c, const Inst& i, uint32_t mask) {
    uint32_t* d = out<uint32_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = mask; });
}

void elect(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t members = members_of(c, i, mask);
    const auto leader = static_cast<uint32_t>(__builtin_ctz(members));
    uint32_t* d = out<uint32_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = leader; });
    if (second_of(c, i) != nothing) set_predicate(c, second_of(c, i), mask, lane_bit[leader]);
}

}  // namespace softgpu
