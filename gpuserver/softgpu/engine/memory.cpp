// Checks of addresses, and the faults they end in.
#include <cstdio>

#include "engine/grid.h"

namespace softgpu {

void fault(const Context& c, const Inst& i, Fault::Kind kind, uint32_t lane, const std::string& what) {
    std::string message = "kernel " + c.code->name + ", " + c.code->source + ":" + std::to_string(i.line) + ": " + what;
    if (c.block && c.warp && lane < lanes) {
        const Dim3& b = c.block->index();
        char where[128];
        std::snprintf(where, sizeof where, " (block (%u,%u,%u), thread (%u,%u,%u))", b.x, b.y, b.z,
                      c.warp->tid[0][lane], c.warp->tid[1][lane], c.warp->tid[2][lane]);
        message += where;
    }
    throw KernelFault{kind, std::move(message)};
}

void fault_address(const Context& c, const Inst& i, uint32_t lane, uint64_t address, uint64_t size, const char* space) {
    char text[128];
    std::snprintf(text, sizeof text, "access of %llu bytes at 0x%llx, outside %s memory",
                  static_cast<unsigned long long>(size), static_cast<unsigned long long>(address), space);
    fault(c, i, Fault::Kind::illegal_address, lane, text);
}

void fault_alignment(const Context& c, const Inst& i, uint32_t lane, uint64_t address, uint64_t size,
                     const char* space) {
    char text[128];
    std::snprintf(text, sizeof text, "access of %llu bytes at 0x%llx in %s memory, which is not aligned",
                  static_cast<unsigned long long>(size), static_cast<unsigned long long>(address), space);
    fault(c, i, Fault::Kind::misaligned_address, lane, text);
}

bool accessible(Context& c, const Inst& i, uint64_t address, uint64_t size, bool write) {
    const uint64_t end = address + size;
    if (end < address) return false;
    auto within = [&](const std::byte* begin, const std::byte* limit) {
        return begin != limit && address >= reinterpret_cast<uint64_t>(begin) && end <= reinterpret_cast<uint64_t>(limit);
    };
    if (within(c.shared, c.shared + c.shared_bytes)) return true;
    if (within(c.local_begin, c.local_end)) return true;
    for (const Range& r : c.ranges->ranges)
        if (address >= r.begin && end <= r.end && (!write || r.writable)) return true;
    if (c.ranges->space) {
        const Range found = c.ranges->space->find(address);
        if (found.begin != found.end && address >= found.begin && end <= found.end) {
            if (write && !found.writable) return false;
            c.ranges->ranges[i.cache % RangeCache::entries] = found;
            return true;
        }
    }
    if (!write && within(c.parameters, c.parameters + c.parameter_bytes)) return true;
    if (c.grid->launch.cooperative) {
        const auto* workspace = reinterpret_cast<const std::byte*>(&c.grid->workspace);
        if (within(workspace, workspace + sizeof c.grid->workspace)) return true;
    }
    return false;
}

}  // namespace softgpu
