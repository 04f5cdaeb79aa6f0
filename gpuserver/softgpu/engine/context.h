// What an instruction handler sees: the warp's registers and the memory windows of its block.
#pragma once

#include <cstring>
#include <string>

#include "engine/code.h"
#include "engine/engine.h"

namespace softgpu {

class Block;
class Grid;
struct Warp;
struct Frame;

// Thrown by handlers; becomes the grid's fault.
struct KernelFault {
    Fault::Kind kind;
    std::string message;
};

// Address ranges that the thread found accessible, so that few accesses need a look-up.
struct RangeCache {
    static constexpr uint32_t entries = 16;
    const AddressSpace* space = nullptr;
    uint64_t generation = 0;
    Range ranges[entries];
    // Forget what may have disappeared.
    void refresh() {
        uint64_t now = space ? space->generation() : 0;
        if (now == generation) return;
        generation = now;
        for (Range& r : ranges) r = {};
    }
};

struct Context {
    std::byte* regs = nullptr;
    const std::byte* consts = nullptr;  // the end of the constants
    std::byte* shared = nullptr;        // window of the block
    uint64_t shared_bytes = 0;
    std::byte* local = nullptr;  // window of the warp's lane 0
    uint64_t local_stride = 0;   // bytes between the windows of two lanes
    uint64_t local_bytes = 0;    // usable bytes of each window
    std::byte* local_begin = nullptr;  // windows of all threads of the block
    std::byte* local_end = nullptr;
    uint32_t frame_local = 0;    // where the current function's frame starts in each window
    uint32_t carry = 0;          // CC.CF of each lane
    const std::byte* parameters = nullptr;
    uint64_t parameter_bytes = 0;
    RangeCache* ranges = nullptr;
    const Code* code = nullptr;
    Frame* frame = nullptr;
    Warp* warp = nullptr;
    Block* block = nullptr;
    Grid* grid = nullptr;
};

template <typename T>
[[gnu::always_inline]] inline T* out(Context& c, int32_t slot) {
    return reinterpret_cast<T*>(c.regs + slot);
}
template <typename T>
[[gnu::always_inline]] inline const T* in(const Context& c, int32_t slot) {
    return reinterpret_cast<const T*>((slot < 0 ? c.consts : c.regs) + slot);
}
[[gnu::always_inline]] inline uint32_t predicate(const Context& c, int32_t slot) {
    uint32_t mask;
    std::memcpy(&mask, (slot < 0 ? c.consts : c.regs) + slot, 4);
    return mask;
}
[[gnu::always_inline]] inline void set_predicate(Context& c, int32_t slot, uint32_t mask, uint32_t value) {
    uint32_t* p = out<uint32_t>(c, slot);
    *p = (*p & ~mask) | (value & mask);
}

inline constexpr uint32_t lane_bit[lanes] = {
    1U << 0,  1U << 1,  1U << 2,  1U << 3,  1U << 4,  1U << 5,  1U << 6,  1U << 7,  1U << 8,  1U << 9,  1U << 10,
    1U << 11, 1U << 12, 1U << 13, 1U << 14, 1U << 15, 1U << 16, 1U << 17, 1U << 18, 1U << 19, 1U << 20, 1U << 21,
    1U << 22, 1U << 23, 1U << 24, 1U << 25, 1U << 26, 1U << 27, 1U << 28, 1U << 29, 1U << 30, 1U << 31};

// Runs `each(lane)` for the lanes of a mask.
template <typename Each>
[[gnu::always_inline]] inline void for_lanes(uint32_t mask, Each each) {
    for (; mask; mask &= mask - 1) each(static_cast<uint32_t>(__builtin_ctz(mask)));
}

// --- memory checks (memory.cpp)

// A faulting access: kind, what was tried, the lane's thread and block, the PTX line.
[[noreturn]] void fault(const Context& c, const Inst& i, Fault::Kind kind, uint32_t lane, const std::string& what);
[[noreturn]] void fault_address(const Context& c, const Inst& i, uint32_t lane, uint64_t address, uint64_t size,
                                const char* space);
[[noreturn]] void fault_alignment(const Context& c, const Inst& i, uint32_t lane, uint64_t address, uint64_t size,
                                  const char* space);
// Whether [address, address + size) may be read (or written) through a generic or global address. On success the
// range lands in the cache where it is one of the address space.
bool accessible(Context& c, const Inst& i, uint64_t address, uint64_t size, bool write);

[[gnu::always_inline]] inline bool cached(const Context& c, const Inst& i, uint64_t begin, uint64_t end, bool write) {
    const Range& r = c.ranges->ranges[i.cache % RangeCache::entries];
    return begin >= r.begin && end <= r.end && begin <= end && (!write || r.writable);
}

}  // namespace softgpu
