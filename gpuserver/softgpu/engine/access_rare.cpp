// Loads and stores of vectors, of local memory, of frames and of kernel parameters; and strong ones (volatile, relaxed
// and so on): what other threads write meanwhile, each element in one piece.
#include "engine/addressing.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

template <bool Strong, typename M>
[[gnu::always_inline]] inline M read_element(uint64_t address) {
    if constexpr (Strong && sizeof(M) <= 8)
        return __atomic_load_n(reinterpret_cast<const M*>(address), __ATOMIC_RELAXED);
    M value;
    std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof(M));
    return value;
}

template <bool Strong, typename M>
[[gnu::always_inline]] inline void write_element(uint64_t address, M value) {
    if constexpr (Strong && sizeof(M) <= 8) {
        __atomic_store_n(reinterpret_cast<M*>(address), value, __ATOMIC_RELAXED);
    } else {
        std::memcpy(reinterpret_cast<void*>(address), &value, sizeof(M));
    }
}

// The same for one element and for several: registers come from extra[] when there are several.
template <Window W, typename A, typename M, typename L, bool Strong>
void load_elements(Context& c, const Inst& i, uint32_t mask) {
    Pointers p;
    const uint32_t count = i.kind;
    resolve<W, A>(c, i, mask, sizeof(M) * count, false, p);
    for (uint32_t k = 0; k < count; ++k) {
        const int32_t slot = count == 1 ? i.d : c.code->extra[i.extra + k];
        if (slot == nothing) continue;
        L* d = out<L>(c, slot);
        for_lanes(mask, [&](uint32_t l) {
            const M value = read_element<Strong, M>(p.at[l] + k * sizeof(M));
            if constexpr (sizeof(M) == 16)
                d[l] = value;
            else
                d[l] = static_cast<L>(value);
        });
    }
}

template <Window W, typename A, typename M, typename L, bool Strong>
void store_elements(Context& c, const Inst& i, uint32_t mask) {
    Pointers p;
    const uint32_t count = i.kind;
    resolve<W, A>(c, i, mask, sizeof(M) * count, true, p);
    for (uint32_t k = 0; k < count; ++k) {
        const L* b = in<L>(c, count == 1 ? i.b : c.code->extra[i.extra + k]);
        for_lanes(mask, [&](uint32_t l) {
            M value;
            if constexpr (sizeof(M) == 16)
                value = b[l];
            else
                value = static_cast<M>(b[l]);
            write_element<Strong>(p.at[l] + k * sizeof(M), value);
        });
    }
}

// A kernel's parameter is the same for all lanes.
template <typename M, typename L>
void load_parameter(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t count = i.kind;
    const auto offset = static_cast<uint64_t>(i.imm);
    if (offset + sizeof(M) * count > c.parameter_bytes)
        fault_address(c, i, static_cast<uint32_t>(__builtin_ctz(mask)), offset, sizeof(M) * count, "parameter");
    for (uint32_t k = 0; k < count; ++k) {
        const int32_t slot = count == 1 ? i.d : c.code->extra[i.extra + k];
        if (slot == nothing) continue;
        M value;
        std::memcpy(&value, c.parameters + offset + k * sizeof(M), sizeof(M));
        L* d = out<L>(c, slot);
        L wide;
        if constexpr (sizeof(M) == 16)
            wide = value;
        else
            wide = static_cast<L>(value);
        if (mask == all_lanes) {
            for (uint32_t l = 0; l < lanes; ++l) d[l] = wide;
        } else {
            for_lanes(mask, [&](uint32_t l) { d[l] = wide; });
        }
    }
}

template <Window W, typename A, typename M, typename L>
Handler pick(const Access& x) {
    constexpr bool private_to_a_thread = W == Window::local || W == Window::frame;
    if constexpr (W == Window::parameter) {
        return x.store ? nullptr : &load_parameter<M, L>;
    } else if (private_to_a_thread || x.ordering == Ordering::weak) {
        return x.store ? &store_elements<W, A, M, L, false> : &load_elements<W, A, M, L, false>;
    } else {
        return x.store ? &store_elements<W, A, M, L, !private_to_a_thread>
                       : &load_elements<W, A, M, L, !private_to_a_thread>;
    }
}

template <Window W, typename A>
Handler find(const Access& x) {
    const bool sign = x.sign_extend;
    switch (x.memory_bytes * 32 + x.register_bytes) {
        case 1 * 32 + 2:
            return sign ? pick<W, A, int8_t, uint16_t>(x) : pick<W, A, uint8_t, uint16_t>(x);
        case 1 * 32 + 4:
            return sign ? pick<W, A, int8_t, uint32_t>(x) : pick<W, A, uint8_t, uint32_t>(x);
        case 1 * 32 + 8:
            return sign ? pick<W, A, int8_t, uint64_t>(x) : pick<W, A, uint8_t, uint64_t>(x);
        case 2 * 32 + 2:
            return pick<W, A, uint16_t, uint16_t>(x);
        case 2 * 32 + 4:
            return sign ? pick<W, A, int16_t, uint32_t>(x) : pick<W, A, uint16_t, uint32_t>(x);
        case 2 * 32 + 8:
            return sign ? pick<W, A, int16_t, uint64_t>(x) : pick<W, A, uint16_t, uint64_t>(x);
        case 4 * 32 + 4:
            return pick<W, A, uint32_t, uint32_t>(x);
        case 4 * 32 + 8:
            return sign ? pick<W, A, int32_t, uint64_t>(x) : pick<W, A, uint32_t, uint64_t>(x);
        case 8 * 32 + 8:
            return pick<W, A, uint64_t, uint64_t>(x);
        case 16 * 32 + 16:
            return pick<W, A, Wide128, Wide128>(x);
        default:
            return nullptr;
    }
}

}  // namespace

Handler find_rare_access(const Access& x) {
    switch (x.window) {
        case Window::generic:
            return find<Window::generic, uint64_t>(x);
        case Window::shared:
            return x.address_bytes == 4 ? find<Window::shared, uint32_t>(x) : find<Window::shared, uint64_t>(x);
        case Window::local:
            return find<Window::local, uint64_t>(x);
        case Window::frame:
            return find<Window::frame, uint64_t>(x);
        case Window::parameter:
            return find<Window::parameter, uint64_t>(x);
    }
    return nullptr;
}

}  // namespace softgpu
