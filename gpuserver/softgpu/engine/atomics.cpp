// Atomic operations: real atomics of the host, lane by lane (PTX ISA "atom", "red").
#include <atomic>
#include <mutex>
#include <type_traits>

#include "engine/addressing.h"
#include "engine/arithmetic/float32.h"
#include "engine/arithmetic/float64.h"
#include "engine/arithmetic/half.h"
#include "engine/arithmetic/integer.h"
#include "engine/arithmetic/minmax.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

namespace ar = arithmetic;

template <size_t Bytes>
struct Unsigned;
template <>
struct Unsigned<2> {
    using type = uint16_t;
};
template <>
struct Unsigned<4> {
    using type = uint32_t;
};
template <>
struct Unsigned<8> {
    using type = uint64_t;
};

// The new value from the old one and the operand.
template <AtomicOp Op, typename T>
T apply(T old, T b) {
    if constexpr (Op == AtomicOp::add) {
        if constexpr (std::is_same_v<T, float>)
            return ar::add<ar::Rounding::rn, false>(old, b);
        else
            return ar::add(old, b);
    } else if constexpr (Op == AtomicOp::min) {
        if constexpr (std::is_integral_v<T>)
            return old < b ? old : b;
        else
            return ar::min(old, b);
    } else if constexpr (Op == AtomicOp::max) {
        if constexpr (std::is_integral_v<T>)
            return old > b ? old : b;
        else
            return ar::max(old, b);
    } else if constexpr (Op == AtomicOp::inc) {
        return old >= b ? T{0} : static_cast<T>(old + 1);
    } else if constexpr (Op == AtomicOp::dec) {
        return old == 0 || old > b ? b : static_cast<T>(old - 1);
    } else if constexpr (Op == AtomicOp::and_) {
        return old & b;
    } else if constexpr (Op == AtomicOp::or_) {
        return old | b;
    } else if constexpr (Op == AtomicOp::xor_) {
        return old ^ b;
    } else {
        return b;
    }
}

template <Window W, typename A, AtomicOp Op, typename T>
void atomic(Context& c, const Inst& i, uint32_t mask) {
    using U = typename Unsigned<sizeof(T)>::type;
    Pointers p;
    resolve<W, A>(c, i, mask, sizeof(T), true, p);
    const U* b = in<U>(c, i.b);
    const U* e = Op == AtomicOp::cas ? in<U>(c, i.c) : nullptr;
    U* d = i.d == nothing ? nullptr : out<U>(c, i.d);
    // A block runs on one host thread: its shared memory needs no atomics.
    constexpr bool exclusive = W == Window::shared;
    for_lanes(mask, [&](uint32_t l) {
        U* address = reinterpret_cast<U*>(p.at[l]);
        U old;
        if constexpr (exclusive) {
            old = *address;
            if constexpr (Op == AtomicOp::cas)
                *address = old == b[l] ? e[l] : old;
            else
                *address = std::bit_cast<U>(apply<Op, T>(std::bit_cast<T>(old), std::bit_cast<T>(b[l])));
        } else {
            std::atomic_ref<U> cell(*address);
            if constexpr (Op == AtomicOp::cas) {
                old = b[l];
                cell.compare_exchange_strong(old, e[l]);
            } else if constexpr (Op == AtomicOp::exch) {
                old = cell.exchange(b[l]);
            } else if constexpr (Op == AtomicOp::add && std::is_integral_v<T>) {
                old = cell.fetch_add(b[l]);
            } else if constexpr (Op == AtomicOp::and_) {
                old = cell.fetch_and(b[l]);
            } else if constexpr (Op == AtomicOp::or_) {
                old = cell.fetch_or(b[l]);
            } else if constexpr (Op == AtomicOp::xor_) {
                old = cell.fetch_xor(b[l]);
            } else {
                old = cell.load();
                while (!cell.compare_exchange_weak(
                    old, std::bit_cast<U>(apply<Op, T>(std::bit_cast<T>(old), std::bit_cast<T>(b[l]))))) {
                }
            }
        }
        if (d) d[l] = old;
    });
}

// 16 bytes: under a lock, which every such access of the process takes.
template <Window W, typename A, AtomicOp Op>
void atomic_128(Context& c, const Inst& i, uint32_t mask) {
    static std::mutex mutexes[64];
    Pointers p;
    resolve<W, A>(c, i, mask, 16, true, p);
    const Wide128* b = in<Wide128>(c, i.b);
    const Wide128* e = Op == AtomicOp::cas ? in<Wide128>(c, i.c) : nullptr;
    Wide128* d = i.d == nothing ? nullptr : out<Wide128>(c, i.d);
    for_lanes(mask, [&](uint32_t l) {
        std::lock_guard lock(mutexes[p.at[l] / 16 % 64]);
        auto* address = reinterpret_cast<Wide128*>(p.at[l]);
        const Wide128 old = *address;
        if constexpr (Op == AtomicOp::cas) {
            const Wide128 expected = b[l], desired = e[l];
            if (old.low == expected.low && old.high == expected.high) *address = desired;
        } else {
            *address = b[l];
        }
        if (d) d[l] = old;
    });
}

// The handler of `op`, where it is one of `Ops`.
template <Window W, typename A, typename T, AtomicOp... Ops>
Handler find_among(AtomicOp op) {
    Handler found = nullptr;
    ((op == Ops ? void(found = &atomic<W, A, Ops, T>) : void()), ...);
    return found;
}

template <Window W, typename A, typename T>
Handler find_bits(AtomicOp op) {
    using enum AtomicOp;
    return find_among<W, A, T, and_, or_, xor_, exch, cas>(op);
}

template <Window W, typename A, typename T>
Handler find_float(AtomicOp op) {
    using enum AtomicOp;
    return find_among<W, A, T, add, min, max>(op);
}

template <Window W, typename A, typename T>
Handler find_integer(AtomicOp op) {
    using enum AtomicOp;
    if constexpr (sizeof(T) == 4) {
        if (Handler h = find_among<W, A, T, inc, dec>(op)) return h;
    }
    if (Handler h = find_among<W, A, T, add, min, max>(op)) return h;
    return find_bits<W, A, std::make_unsigned_t<T>>(op);
}

template <Window W, typename A>
Handler find(AtomicOp op, ptx::Type type) {
    using ptx::Type;
    switch (type) {
        case Type::u32:
            return find_integer<W, A, uint32_t>(op);
        case Type::s32:
            return find_integer<W, A, int32_t>(op);
        case Type::u64:
            return find_integer<W, A, uint64_t>(op);
        case Type::s64:
            return find_integer<W, A, int64_t>(op);
        case Type::b32:
            return find_bits<W, A, uint32_t>(op);
        case Type::b64:
            return find_bits<W, A, uint64_t>(op);
        case Type::b16:
        case Type::u16:
            return find_bits<W, A, uint16_t>(op);
        case Type::f32:
            return find_float<W, A, float>(op);
        case Type::f64:
            return find_float<W, A, double>(op);
        case Type::f16:
            return find_float<W, A, ar::f16>(op);
        case Type::bf16:
            return find_float<W, A, ar::bf16>(op);
        case Type::f16x2:
            return find_float<W, A, ar::f16x2>(op);
        case Type::bf16x2:
            return find_float<W, A, ar::bf16x2>(op);
        case Type::b128:
            if (op == AtomicOp::exch) return &atomic_128<W, A, AtomicOp::exch>;
            if (op == AtomicOp::cas) return &atomic_128<W, A, AtomicOp::cas>;
            return nullptr;
        default:
            return nullptr;
    }
}

}  // namespace

Handler find_atomic(AtomicOp op, ptx::Type type, bool shared, uint32_t address_bytes) {
    if (!shared) return find<Window::generic, uint64_t>(op, type);
    if (address_bytes == 4) return find<Window::shared, uint32_t>(op, type);
    return find<Window::shared, uint64_t>(op, type);
}

}  // namespace softgpu
