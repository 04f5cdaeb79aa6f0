// Handlers of registers: special registers, predicates, packing, addresses of windows.
#include <chrono>
#include <ctime>

#include "engine/grid.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

uint64_t clock_now(const Context& c) {
    const auto elapsed = std::chrono::steady_clock::now().time_since_epoch();
    const auto nanoseconds = static_cast<uint64_t>(std::chrono::nanoseconds(elapsed).count());
    const uint64_t hertz = c.grid->launch.services.clock_hz;
    return nanoseconds / 1'000'000'000 * hertz + nanoseconds % 1'000'000'000 * hertz / 1'000'000'000;
}

uint64_t global_timer() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint32_t part(const Dim3& d, int64_t component) {
    return component == 0 ? d.x : component == 1 ? d.y : component == 2 ? d.z : 0;
}

// The value of a special register that is the same in all lanes.
uint64_t uniform_special(const Context& c, ptx::Special special, int64_t component) {
    using ptx::Special;
    const Grid& grid = *c.grid;
    const Launch& launch = grid.launch;
    const Dim3& ctaid = c.block->index();
    const Dim3& cluster = launch.cluster;
    auto ratio = [](uint32_t a, uint32_t b) { return b ? a / b : a; };
    auto rest = [](uint32_t a, uint32_t b) { return b ? a % b : 0; };
    switch (special) {
        case Special::ntid:
            return component == 3 ? 0 : part(launch.block, component);
        case Special::warpid:
            return c.warp->index;
        case Special::nwarpid:
            return c.block->warps().size();
        case Special::ctaid:
            return part(ctaid, component);
        case Special::nctaid:
            return part(launch.grid, component);
        case Special::smid: {
            const uint64_t index = ctaid.x + uint64_t{launch.grid.x} * (ctaid.y + uint64_t{launch.grid.y} * ctaid.z);
            return index % std::max<uint32_t>(1, launch.services.multiprocessors);
        }
        case Special::nsmid:
            return std::max<uint32_t>(1, launch.services.multiprocessors);
        case Special::gridid:
            return grid.number;
        case Special::is_explicit_cluster:
            return cluster.volume() > 1;
        case Special::clusterid:
            return ratio(part(ctaid, component), part(cluster, component));
        case Special::nclusterid:
            return component == 3 ? 0 : std::max<uint32_t>(1, ratio(part(launch.grid, component), part(cluster, component)));
        case Special::cluster_ctaid:
            return rest(part(ctaid, component), part(cluster, component));
        case Special::cluster_nctaid:
            return component == 3 ? 0 : part(cluster, component);
        case Special::cluster_ctarank:
            return rest(ctaid.x, cluster.x) + uint64_t{cluster.x} * (rest(ctaid.y, cluster.y) + uint64_t{cluster.y} * rest(ctaid.z, cluster.z));
        case Special::cluster_nctarank:
            return cluster.volume();
        case Special::clock:
        case Special::clock64:
            return clock_now(c);
        case Special::clock_hi:
            return clock_now(c) >> 32;
        case Special::globaltimer:
        case Special::globaltimer_lo:
            return global_timer();
        case Special::globaltimer_hi:
            return global_timer() >> 32;
        case Special::envreg: {
            // Cooperative groups find the grid's workspace in registers 1 (high word) and 2.
            if (!launch.cooperative) return 0;
            const auto address = reinterpret_cast<uint64_t>(&grid.workspace);
            return component == 1 ? address >> 32 : component == 2 ? address & 0xffffffffU : 0;
        }
        case Special::reserved_smem_offset:
            return component == 1 || component == 2 ? reserved_shared_bytes : 0;
        case Special::total_smem_size:
        case Special::aggr_smem_size:
            return c.shared_bytes;
        case Special::dynamic_smem_size:
            return launch.dynamic_shared_bytes;
        default:
            return 0;  // performance counters count nothing
    }
}

template <typename T>
void special(Context& c, const Inst& i, uint32_t mask) {
    using ptx::Special;
    T* d = out<T>(c, i.d);
    const auto which = static_cast<Special>(i.kind);
    auto each = [&](auto value) { for_lanes(mask, [&](uint32_t l) { d[l] = static_cast<T>(value(l)); }); };
    switch (which) {
        case Special::tid:
            if (i.imm < 3) {
                const uint32_t* tid = c.warp->tid[i.imm];
                each([&](uint32_t l) { return tid[l]; });
            } else {
                each([](uint32_t) { return 0U; });
            }
            return;
        case Special::laneid:
            each([](uint32_t l) { return l; });
            return;
        case Special::lanemask_eq:
            each([](uint32_t l) { return 1U << l; });
            return;
        case Special::lanemask_lt:
            each([](uint32_t l) { return (1U << l) - 1; });
            return;
        case Special::lanemask_le:
            each([](uint32_t l) { return (2U << l) - 1; });
            return;
        case Special::lanemask_gt:
            each([](uint32_t l) { return ~((2U << l) - 1); });
            return;
        case Special::lanemask_ge:
            each([](uint32_t l) { return ~((1U << l) - 1); });
            return;
        default: {
            const uint64_t value = uniform_special(c, which, i.imm);
            each([&](uint32_t) { return value; });
        }
    }
}

template <typename Part, typename Whole>
void pack(Context& c, const Inst& i, uint32_t mask) {
    // A part of one byte lives in a lane of two.
    using Lane = std::conditional_t<sizeof(Part) == 1, uint16_t, Part>;
    const int32_t* parts = c.code->extra.data() + i.extra;
    Whole* d = out<Whole>(c, i.d);
    for_lanes(mask, [&](uint32_t l) {
        Whole value = 0;
        for (uint32_t k = 0; k < i.kind; ++k)
            value |= static_cast<Whole>(static_cast<Whole>(static_cast<Part>(in<Lane>(c, parts[k])[l])) << (k * sizeof(Part) * 8));
        d[l] = value;
    });
}

template <typename Part, typename Whole>
void unpack(Context& c, const Inst& i, uint32_t mask) {
    using Lane = std::conditional_t<sizeof(Part) == 1, uint16_t, Part>;
    const int32_t* parts = c.code->extra.data() + i.extra;
    const Whole* a = in<Whole>(c, i.a);
    for (uint32_t k = 0; k < i.kind; ++k) {
        if (parts[k] == nothing) continue;
        Lane* d = out<Lane>(c, parts[k]);
        for_lanes(mask, [&](uint32_t l) { d[l] = static_cast<Part>(a[l] >> (k * sizeof(Part) * 8)); });
    }
}

using Wide = unsigned __int128;

}  // namespace

Handler find_special(uint32_t bytes) { return bytes == 4 ? &special<uint32_t> : &special<uint64_t>; }

void predicate_logic(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t a = predicate(c, i.a);
    const uint32_t b = i.b == nothing ? 0 : predicate(c, i.b);
    uint32_t result = 0;
    switch (i.kind) {
        case 0:
            result = a & b;
            break;
        case 1:
            result = a | b;
            break;
        case 2:
            result = a ^ b;
            break;
        case 3:
            result = ~a;
            break;
        default:
            result = a;
            break;
    }
    if (i.d != nothing) set_predicate(c, i.d, mask, result);
}

void predicate_select(Context& c, const Inst& i, uint32_t mask) {
    const uint32_t p = i.kind ? ~predicate(c, i.c) : predicate(c, i.c);
    const uint32_t result = (predicate(c, i.a) & p) | (predicate(c, i.b) & ~p);
    if (i.d != nothing) set_predicate(c, i.d, mask, result);
}

Handler find_pack(uint32_t part, uint32_t whole) {
    switch (part * 32 + whole) {
        case 1 * 32 + 2:
            return &pack<uint8_t, uint16_t>;
        case 1 * 32 + 4:
            return &pack<uint8_t, uint32_t>;
        case 2 * 32 + 4:
            return &pack<uint16_t, uint32_t>;
        case 2 * 32 + 8:
            return &pack<uint16_t, uint64_t>;
        case 4 * 32 + 8:
            return &pack<uint32_t, uint64_t>;
        case 8 * 32 + 16:
            return &pack<uint64_t, Wide>;
        case 4 * 32 + 16:
            return &pack<uint32_t, Wide>;
        default:
            return nullptr;
    }
}

Handler find_unpack(uint32_t part, uint32_t whole) {
    switch (part * 32 + whole) {
        case 1 * 32 + 2:
            return &unpack<uint8_t, uint16_t>;
        case 1 * 32 + 4:
            return &unpack<uint8_t, uint32_t>;
        case 2 * 32 + 4:
            return &unpack<uint16_t, uint32_t>;
        case 2 * 32 + 8:
            return &unpack<uint16_t, uint64_t>;
        case 4 * 32 + 8:
            return &unpack<uint32_t, uint64_t>;
        case 8 * 32 + 16:
            return &unpack<uint64_t, Wide>;
        case 4 * 32 + 16:
            return &unpack<uint32_t, Wide>;
        default:
            return nullptr;
    }
}

void move_128(Context& c, const Inst& i, uint32_t mask) {
    const Wide* a = in<Wide>(c, i.a);
    Wide* d = out<Wide>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = a[l]; });
}

void frame_address(Context& c, const Inst& i, uint32_t mask) {
    const uint64_t value = c.frame_local + static_cast<uint64_t>(i.imm);
    if (i.kind == 4) {
        uint32_t* d = out<uint32_t>(c, i.d);
        for_lanes(mask, [&](uint32_t l) { d[l] = static_cast<uint32_t>(value); });
    } else {
        uint64_t* d = out<uint64_t>(c, i.d);
        for_lanes(mask, [&](uint32_t l) { d[l] = value; });
    }
}

void parameter_address(Context& c, const Inst& i, uint32_t mask) {
    uint64_t* d = out<uint64_t>(c, i.d);
    const uint64_t value = reinterpret_cast<uint64_t>(c.parameters) + static_cast<uint64_t>(i.imm);
    for_lanes(mask, [&](uint32_t l) { d[l] = value; });
}

void convert_address(Context& c, const Inst& i, uint32_t mask) {
    uint64_t* d = out<uint64_t>(c, i.d);
    const uint64_t* a = in<uint64_t>(c, i.a);
    const auto shared = reinterpret_cast<uint64_t>(c.shared);
    const auto local = reinterpret_cast<uint64_t>(c.local);
    for_lanes(mask, [&](uint32_t l) {
        const uint64_t window = i.kind < 2 ? shared : local + l * c.local_stride;
        d[l] = i.kind & 1 ? a[l] - window : a[l] + window;
    });
}

void is_in_space(Context& c, const Inst& i, uint32_t mask) {
    const uint64_t* a = in<uint64_t>(c, i.a);
    auto within = [](uint64_t address, const std::byte* begin, uint64_t size) {
        return address - reinterpret_cast<uint64_t>(begin) < size;
    };
    const auto local_size = static_cast<uint64_t>(c.local_end - c.local_begin);
    uint32_t result = 0;
    for_lanes(mask, [&](uint32_t l) {
        const bool shared = within(a[l], c.shared, c.shared_bytes);
        const bool local = within(a[l], c.local_begin, local_size);
        const bool parameter = within(a[l], c.parameters, c.parameter_bytes);
        bool is = false;
        switch (static_cast<ptx::Space>(i.kind)) {
            case ptx::Space::shared:
                is = shared;
                break;
            case ptx::Space::local:
                is = local;
                break;
            case ptx::Space::param:
                is = parameter;
                break;
            case ptx::Space::constant: {
                // A constant variable lies within global memory; its bounds tell.
                const auto& image = static_cast<const LoadedImage&>(*c.grid->launch.program);
                const auto variables = image.program().variables();
                for (size_t v = 0; v < variables.size() && !is; ++v)
                    is = variables[v].space == VariableInfo::Space::constant &&
                         a[l] - image.variable_address(v) < variables[v].size;
                break;
            }
            default:
                is = !shared && !local && !parameter;
                break;
        }
        if (is) result |= lane_bit[l];
    });
    if (i.d != nothing) set_predicate(c, i.d, mask, result);
}

void stack_allocate(Context& c, const Inst& i, uint32_t mask) {
    Frame& frame = *c.frame;
    if (i.kind == 1) {
        uint64_t* d = out<uint64_t>(c, i.d);
        for_lanes(mask, [&](uint32_t l) { d[l] = frame.local_end; });
        return;
    }
    const uint64_t* a = in<uint64_t>(c, i.a);
    if (i.kind == 2) {
        // Lanes share the frame: memory is free again only when none needs it, so the highest mark stays.
        uint64_t highest = 0;
        for_lanes(mask, [&](uint32_t l) { highest = std::max(highest, a[l]); });
        if (mask == frame.live && highest >= frame.local_base && highest <= frame.local_end)
            frame.local_end = static_cast<uint32_t>(highest);
        return;
    }
    const auto first = static_cast<uint32_t>(__builtin_ctz(mask));
    uint64_t most = 0;
    for_lanes(mask, [&](uint32_t l) { most = std::max(most, a[l]); });
    const auto align = static_cast<uint64_t>(std::max<int64_t>(i.imm, 8));
    if ((align & (align - 1)) != 0 || align > 1 << 16) fault(c, i, Fault::Kind::illegal_instruction, first, "alloca: bad alignment");
    const uint64_t start = (frame.local_end + align - 1) / align * align;
    if (most > c.local_bytes || start + most > c.local_bytes)
        fault(c, i, Fault::Kind::stack_overflow, first, "alloca: the stack is full");
    uint64_t* d = out<uint64_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = start; });
    frame.local_end = static_cast<uint32_t>((start + most + 63) / 64 * 64);
}

}  // namespace softgpu
