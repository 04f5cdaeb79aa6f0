// A memory pool as the client keeps it: what its pieces are (pools.cpp), and what programs set and ask
// (pool_attributes.cpp).
#pragma once

#include <map>
#include <mutex>

#include "device_memory.h"
#include "handles.h"

namespace gpuferry {

// Memory that was freed in a stream's turn and stays with its pool: what that stream does next may use it again.
struct IdleBlock {
    uint64_t size = 0;  // bytes
    Handle stream = 0;
    const Context* context = nullptr;
};

struct MemoryPool {
    CUdevice device = 0;
    CUmemLocation location{};
    std::map<CUdevice, CUmemAccess_flags> rights;  // of GPUs to a pool on the host
    uint64_t most = 0;                             // bytes, 0 for no bound of its own
    Arena arena;
    std::map<CUdeviceptr, IdleBlock> idle;
    uint64_t idle_bytes = 0;
    Handle handle = 0;
    bool is_default = false, exportable = false, imported = false;
    std::map<int, cuuint64_t> attributes;
    uint64_t used = 0, used_high = 0, reserved_high = 0;  // bytes

    [[nodiscard]] bool on_host() const { return location.type != CU_MEM_LOCATION_TYPE_DEVICE; }
    [[nodiscard]] uint64_t reserved() const { return on_host() ? used + idle_bytes : device_memory().mapped(arena); }
};

// Guards all pools.
std::mutex& pools_lock();
// Null for a handle that is none. The caller holds the lock, as for what follows.
MemoryPool* find_pool(CUmemoryPool pool);
// Gives idle memory back until the pool holds no more than `keep` bytes.
void trim(MemoryPool& pool, uint64_t keep);

// Whether memory at this location is the host's.
inline bool is_host(const CUmemLocation& location) {
    return location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA;
}

}  // namespace gpuferry
