// mbarrier and cp.async. Copies happen at once, so that waiting for them never waits.
//
// Layout of an mbarrier object here (its contents are opaque to programs): pending arrivals in bits 0 to 19, the count
// that the next phase starts with in 20 to 39, transactions still expected in 40 to 61 (a signed number), the phase's
// parity in bit 63.
#include <algorithm>

#include "engine/addressing.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

constexpr uint64_t count_mask = (1U << 20) - 1;

struct Phase {
    uint64_t pending, expected;
    int64_t transactions;
    bool parity;
};

Phase unpack(uint64_t word) {
    Phase p{};
    p.pending = word & count_mask;
    p.expected = word >> 20 & count_mask;
    p.transactions = static_cast<int64_t>(word << 2) >> 42;
    p.parity = word >> 63;
    return p;
}

uint64_t pack(const Phase& p) {
    return (p.pending & count_mask) | (p.expected & count_mask) << 20 |
           (static_cast<uint64_t>(p.transactions) & ((1U << 22) - 1)) << 40 | uint64_t{p.parity} << 63;
}

}  // namespace

void mbarrier(Context& c, const Inst& i, uint32_t mask) {
    Pointers p;
    resolve<Window::generic, uint64_t>(c, i, mask, 8, true, p);
    enum Kind : uint8_t { init, inval, arrive, arrive_drop, expect_tx, complete_tx, test_state, test_parity, arrive_tx };
    for_lanes(mask, [&](uint32_t l) {
        auto* word = reinterpret_cast<uint64_t*>(p.at[l]);
        Phase phase = unpack(*word);
        const uint64_t before = *word;
        const uint64_t operand = i.b == nothing ? 0 : i.kind == test_state ? in<uint64_t>(c, i.b)[l] : in<uint32_t>(c, i.b)[l];
        switch (i.kind) {
            case init:
                phase = {operand, operand, 0, false};
                break;
            case inval:
                phase = {};
                break;
            case arrive:
                phase.pending -= operand;
                break;
            case arrive_drop:
                phase.pending -= operand;
                phase.expected -= operand;
                break;
            case expect_tx:
                phase.transactions += static_cast<int64_t>(operand);
                break;
            case arrive_tx:
                phase.transactions += static_cast<int64_t>(operand);
                phase.pending -= 1;
                break;
            case complete_tx:
                phase.transactions -= static_cast<int64_t>(operand);
                break;
            case test_state:
                set_predicate(c, i.d, lane_bit[l], phase.parity != (operand >> 63 != 0) ? all_lanes : 0);
                return;
            default:
                set_predicate(c, i.d, lane_bit[l], phase.parity != ((operand & 1) != 0) ? all_lanes : 0);
                return;
        }
        if (i.kind != init && i.kind != inval && (phase.pending & count_mask) == 0 && phase.transactions == 0) {
            phase.pending = phase.expected;
            phase.parity = !phase.parity;
        }
        *word = pack(phase);
        if (i.d != nothing) out<uint64_t>(c, i.d)[l] = before;
    });
}

void mbarrier_pending(Context& c, const Inst& i, uint32_t mask) {
    const uint64_t* state = in<uint64_t>(c, i.a);
    uint32_t* d = out<uint32_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = static_cast<uint32_t>(state[l] & count_mask); });
}

void copy_async(Context& c, const Inst& i, uint32_t mask) {
    const uint64_t* to = in<uint64_t>(c, i.a);
    const uint64_t* from = in<uint64_t>(c, i.b);
    const uint32_t* count = i.c == nothing ? nullptr : in<uint32_t>(c, i.c);
    const auto size = static_cast<uint64_t>(i.imm);
    for_lanes(mask, [&](uint32_t l) {
        const uint64_t bytes = count ? std::min<uint64_t>(count[l], size) : size;
        if (to[l] % size) fault_alignment(c, i, l, to[l], size, "shared");
        if (bytes && from[l] % size) fault_alignment(c, i, l, from[l], size, "global");
        if (!accessible(c, i, to[l], size, true)) fault_address(c, i, l, to[l], size, "shared");
        if (bytes && !accessible(c, i, from[l], bytes, false)) fault_address(c, i, l, from[l], bytes, "global");
        std::byte buffer[16] = {};
        if (bytes) std::memcpy(buffer, reinterpret_cast<const void*>(from[l]), bytes);
        std::memcpy(reinterpret_cast<void*>(to[l]), buffer, size);
    });
}

}  // namespace softgpu
