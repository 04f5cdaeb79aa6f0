// Turns a warp's addresses into host pointers, with every check, before anything is read or written.
//
// Included by files that are compiled for several instruction sets: everything here is local to the file.
#pragma once

#include "engine/context.h"
#include "engine/shape.h"

namespace softgpu {
namespace {

struct Wide128 {
    uint64_t low, high;
};

inline const char* name_of(Window window) {
    switch (window) {
        case Window::shared:
            return "shared";
        case Window::local:
        case Window::frame:
            return "local";
        case Window::parameter:
            return "parameter";
        default:
            return "global";
    }
}

// The lanes' pointers of one access. Lanes outside the mask get the pointer of a lane inside it, so that loops may
// run over all of them when reading.
struct Pointers {
    uint64_t at[lanes];
};

// `size` bytes for each lane, aligned to `size` (a power of two).
template <Window W, typename A>
[[gnu::always_inline]] inline void resolve(Context& c, const Inst& i, uint32_t mask, uint64_t size, bool write,
                                           Pointers& p) {
    const uint32_t first = static_cast<uint32_t>(__builtin_ctz(mask));
    if constexpr (W == Window::frame) {
        const uint64_t offset = c.frame_local + static_cast<uint64_t>(i.imm);
        if (offset + size > c.local_bytes) fault(c, i, Fault::Kind::stack_overflow, first, "the stack is full");
        const auto base = reinterpret_cast<uint64_t>(c.local) + offset;
        for (uint32_t l = 0; l < lanes; ++l) p.at[l] = base + l * c.local_stride;
        return;
    }
    const A* a = in<A>(c, i.a);
    const A offset = static_cast<A>(i.imm);
    uint64_t lowest = ~uint64_t{0}, highest = 0, bits = 0;
    const auto fill = static_cast<A>(a[first] + offset);
    if (mask == all_lanes) {
        for (uint32_t l = 0; l < lanes; ++l) p.at[l] = static_cast<A>(a[l] + offset);
    } else {
        for (uint32_t l = 0; l < lanes; ++l) {
            const auto address = static_cast<A>(a[l] + offset);
            p.at[l] = (mask & lane_bit[l]) ? address : fill;
        }
    }
    for (uint32_t l = 0; l < lanes; ++l) {
        lowest = p.at[l] < lowest ? p.at[l] : lowest;
        highest = p.at[l] > highest ? p.at[l] : highest;
        bits |= p.at[l];
    }
    if (__builtin_expect((bits & (size - 1)) != 0, 0)) {
        for (uint32_t l = 0; l < lanes; ++l)
            if ((p.at[l] & (size - 1)) && (mask & lane_bit[l])) fault_alignment(c, i, l, p.at[l], size, name_of(W));
    }
    if constexpr (W == Window::shared || W == Window::local) {
        const uint64_t limit = W == Window::shared ? c.shared_bytes : c.local_bytes;
        if (__builtin_expect(highest > limit || highest + size > limit, 0)) {
            for (uint32_t l = 0; l < lanes; ++l)
                if ((p.at[l] > limit || p.at[l] + size > limit) && (mask & lane_bit[l]))
                    fault_address(c, i, l, p.at[l], size, name_of(W));
        }
        const auto base = reinterpret_cast<uint64_t>(W == Window::shared ? c.shared : c.local);
        const uint64_t stride = W == Window::shared ? 0 : c.local_stride;
        for (uint32_t l = 0; l < lanes; ++l) p.at[l] += base + l * stride;
        if constexpr (W == Window::local) {
            if (mask != all_lanes) {
                // The windows of lanes that do not exist are not there.
                for (uint32_t l = 0; l < lanes; ++l)
                    if (!(mask & lane_bit[l])) p.at[l] = p.at[first];
            }
        }
    } else {
        if (__builtin_expect(!cached(c, i, lowest, highest + size, write), 0)) {
            for (uint32_t l = 0; l < lanes; ++l)
                if ((mask & lane_bit[l]) && !accessible(c, i, p.at[l], size, write))
                    fault_address(c, i, l, p.at[l], size, name_of(W));
        }
    }
}

}  // namespace
}  // namespace softgpu
