// The map of memory and the allocator of address ranges.
#include "device/memory.h"

#include "device/context.h"
#include "device/device.h"
#include "device/error.h"
#include "device/sizes.h"

namespace softgpu {
namespace {

// May kernels of `context` touch it, and write to it?
Range rights(const Allocation& allocation, const Context& context) {
    const uint64_t own = uint64_t{1} << context.device().ordinal();
    const Range whole{allocation.begin, allocation.end(), true};
    switch (allocation.kind) {
        case MemoryKind::managed:
            return whole;
        case MemoryKind::host_registered:
            return {whole.begin, whole.end, !(allocation.flags & CU_MEMHOSTREGISTER_READ_ONLY)};
        case MemoryKind::host_allocated:
            if (!allocation.pool) return whole;
            [[fallthrough]];
        case MemoryKind::mapping:
        case MemoryKind::pool:
            if (!(allocation.readable_by.load() & own)) return {};
            return {whole.begin, whole.end, (allocation.writable_by.load() & own) != 0};
        case MemoryKind::device:
        case MemoryKind::imported: {
            const uint64_t home = uint64_t{1} << allocation.device->ordinal();
            return home == own || (context.peers() & home) ? whole : Range{};
        }
    }
    return {};
}

}  // namespace

MemoryMap& memory_map() {
    static auto& map = *new MemoryMap;
    return map;
}

void MemoryMap::insert(const AllocationPtr& allocation) {
    const std::unique_lock lock(mutex_);
    const auto after = by_begin_.lower_bound(allocation->begin);
    const bool meets_next = after != by_begin_.end() && after->first < allocation->end();
    const bool meets_previous = after != by_begin_.begin() && std::prev(after)->second->end() > allocation->begin;
    if (meets_next || meets_previous) {
        throw DriverError(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "the range overlaps memory CUDA knows already");
    }
    by_begin_.emplace_hint(after, allocation->begin, allocation);
}

bool MemoryMap::erase(const AllocationPtr& allocation) {
    const std::unique_lock lock(mutex_);
    const auto found = by_begin_.find(allocation->begin);
    if (found == by_begin_.end() || found->second != allocation) return false;
    by_begin_.erase(found);
    changed();
    return true;
}

AllocationPtr MemoryMap::find(uint64_t address) const {
    const std::shared_lock lock(mutex_);
    auto after = by_begin_.upper_bound(address);
    if (after == by_begin_.begin()) return nullptr;
    --after;
    return address < after->second->end() ? after->second : nullptr;
}

bool MemoryMap::overlaps(uint64_t begin, uint64_t size) const {
    const std::shared_lock lock(mutex_);
    const auto after = by_begin_.lower_bound(begin);
    if (after != by_begin_.end() && after->first - begin < size) return true;
    return after != by_begin_.begin() && std::prev(after)->second->end() > begin;
}

std::vector<AllocationPtr> MemoryMap::within(uint64_t begin, uint64_t size) const {
    const std::shared_lock lock(mutex_);
    std::vector<AllocationPtr> found;
    auto at = by_begin_.upper_bound(begin);
    if (at != by_begin_.begin() && std::prev(at)->second->end() > begin) --at;
    for (; at != by_begin_.end() && (at->first < begin || at->first - begin < size); ++at) found.push_back(at->second);
    return found;
}

std::vector<AllocationPtr> MemoryMap::owned_by(uint64_t context_id) const {
    const std::shared_lock lock(mutex_);
    std::vector<AllocationPtr> found;
    for (const auto& [begin, allocation] : by_begin_) {
        if (allocation->context_id == context_id) found.push_back(allocation);
    }
    return found;
}

Range MemoryMap::accessible(uint64_t address, const Context& context) const {
    const auto allocation = find(address);
    return allocation ? rights(*allocation, context) : Range{};
}

RangeAllocator::RangeAllocator(uint64_t size) {
    free_.emplace(0, size);
}

uint64_t RangeAllocator::allocate(uint64_t size, uint64_t alignment) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
        const uint64_t start = round_up(it->first, alignment);
        const uint64_t lost = start - it->first;
        if (lost > it->second || it->second - lost < size) continue;
        if (best == free_.end() || it->second < best->second) best = it;
    }
    if (best == free_.end()) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "no address range is large enough");
    const auto [begin, length] = *best;
    const uint64_t start = round_up(begin, alignment);
    free_.erase(best);
    if (start > begin) free_.emplace(begin, start - begin);
    if (start + size < begin + length) free_.emplace(start + size, begin + length - start - size);
    used_ += size;
    return start;
}

void RangeAllocator::release(uint64_t begin, uint64_t size) {
    used_ -= size;
    auto next = free_.lower_bound(begin);
    if (next != free_.end() && next->first == begin + size) {
        size += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == begin) {
            previous->second += size;
            return;
        }
    }
    free_.emplace_hint(next, begin, size);
}

}  // namespace softgpu
