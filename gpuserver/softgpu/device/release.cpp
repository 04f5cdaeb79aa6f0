// Ending an allocation.
#include "device/release.h"

#include <sys/mman.h>

#include "device/device.h"
#include "device/pool.h"

namespace softgpu {

void release_allocation(const AllocationPtr& allocation) {
    switch (allocation->kind) {
        case MemoryKind::device:
        case MemoryKind::managed:
            allocation->device->release(allocation);
            return;
        case MemoryKind::pool:
            allocation->pool->finish_free(allocation);
            return;
        case MemoryKind::host_allocated:
        case MemoryKind::imported: {
            if (allocation->kind == MemoryKind::host_allocated && allocation->pool) {
                return allocation->pool->finish_free(allocation);
            }
            if (!memory_map().erase(allocation) || !allocation->mapped_length) return;
            const uint64_t page = 4096;
            munmap(reinterpret_cast<void*>(allocation->begin / page * page), allocation->mapped_length);
            return;
        }
        case MemoryKind::host_registered:
        case MemoryKind::mapping:
            memory_map().erase(allocation);
            return;
    }
}

}  // namespace softgpu
