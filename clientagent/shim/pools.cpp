// cuMemAllocAsync and pools. Memory comes from the same window and budget as cuMemAlloc's, mapped before anything that
// is posted later; what cuMemFreeAsync frees is unmapped once the GPU is done with it. A pool is a name for that, with
// the attributes that programs set and read.
#include "pools.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "call.h"
#include "capture.h"
#include "device_memory.h"
#include "peers.h"
#include "shared_names.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

// Memory that was freed in a stream's turn and stays with its pool: what that stream does next may use it again.
struct IdleBlock {
    uint64_t size = 0;  // bytes
    Handle stream = 0;
    const Context* context = nullptr;
};

struct MemoryPool {
    CUdevice device = 0;
    uint64_t most = 0;  // bytes, 0 for no bound of its own
    Arena arena;
    std::map<CUdeviceptr, IdleBlock> idle;
    uint64_t idle_bytes = 0;
    Handle handle = 0;
    bool is_default = false, exportable = false, imported = false;
    std::map<int, cuuint64_t> attributes;
    uint64_t used = 0, used_high = 0, reserved_high = 0;  // bytes
};

struct Block {
    MemoryPool* pool = nullptr;
    uint64_t size = 0;
    const Context* context = nullptr;
};

std::mutex lock;
std::map<CUdeviceptr, Block>& blocks() {
    static auto* all = new std::map<CUdeviceptr, Block>;
    return *all;
}

struct DevicePools {
    MemoryPool* of_device = nullptr;
    MemoryPool* in_use = nullptr;
    std::vector<MemoryPool*> all;
};
std::map<CUdevice, DevicePools>& device_pools() {
    static auto* all = new std::map<CUdevice, DevicePools>;
    return *all;
}

MemoryPool* make_pool(CUdevice device, bool is_default) {
    auto* pool = new MemoryPool;
    pool->device = device;
    pool->is_default = is_default;
    pool->arena.of_pool = true;
    pool->attributes = {{CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES, 1},
                        {CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, 1},
                        {CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, 1},
                        {CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, 0}};
    pool->handle = handles_table().create(Kind::memory_pool, pool);
    return pool;
}

// The caller holds the lock.
DevicePools& pools_of(CUdevice device) {
    DevicePools& pools = device_pools()[device];
    if (!pools.of_device) {
        pools.of_device = pools.in_use = make_pool(device, true);
        pools.all.push_back(pools.of_device);
    }
    return pools;
}

MemoryPool* find_pool(CUmemoryPool pool) {
    return handles_table().find<MemoryPool>(Kind::memory_pool, to_handle(pool));
}

CUresult check_stream(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    return CUDA_SUCCESS;
}

// Gives idle memory back until the pool holds no more than `keep` bytes.
void trim(MemoryPool& pool, uint64_t keep) {
    while (!pool.idle.empty() && device_memory().mapped(pool.arena) > keep) {
        const auto first = pool.idle.begin();
        pool.idle_bytes -= first->second.size;
        device_memory().free(first->first);
        pool.idle.erase(first);
    }
}

CUresult allocate(CUdeviceptr* address, size_t size, MemoryPool& pool, CUstream stream) {
    Context* context = current_context();
    if (const CUresult sticky = context->sticky) return sticky;
    if (!address || !size) return CUDA_ERROR_INVALID_VALUE;
    if (pool.imported) return CUDA_ERROR_NOT_SUPPORTED;  // its own process allocates
    const Handle place = resolve_stream(stream);
    const auto fits = std::find_if(pool.idle.begin(), pool.idle.end(), [&](const auto& entry) {
        const IdleBlock& block = entry.second;
        return block.size == size && block.stream == place && block.context == context;
    });
    if (fits != pool.idle.end()) {
        *address = fits->first;
        pool.idle_bytes -= size;
        pool.idle.erase(fits);
    } else {
        const auto beyond_bound = [&] { return pool.most && pool.used + pool.idle_bytes + size > pool.most; };
        if (beyond_bound()) trim(pool, 0);
        if (beyond_bound()) return CUDA_ERROR_OUT_OF_MEMORY;
        CUresult result = device_memory().allocate(context, size, *address, pool.device, &pool.arena);
        if (result == CUDA_ERROR_OUT_OF_MEMORY && !pool.idle.empty()) {
            trim(pool, 0);
            result = device_memory().allocate(context, size, *address, pool.device, &pool.arena);
        }
        if (result) return result;
    }
    pool.used += size;
    pool.used_high = std::max(pool.used_high, pool.used);
    pool.reserved_high = std::max(pool.reserved_high, device_memory().mapped(pool.arena));
    blocks()[*address] = {&pool, size, context};
    return CUDA_SUCCESS;
}

// The block is free from the stream's turn on: kept below the pool's threshold, else given back.
CUresult give_back(CUdeviceptr address, const Block& block, CUstream stream) {
    MemoryPool& pool = *block.pool;
    const bool living = handles_table().living(Kind::memory_pool, pool.handle);
    pool.used -= block.size;
    if (!living || device_memory().mapped(pool.arena) > pool.attributes.at(CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)) {
        return device_memory().free(address);
    }
    pool.idle[address] = {block.size, resolve_stream(stream), block.context};
    pool.idle_bytes += block.size;
    return CUDA_SUCCESS;
}

// The caller holds the lock.
bool is_idle(CUdeviceptr address) {
    for (const auto& [device, pools] : device_pools()) {
        for (const MemoryPool* pool : pools.all) {
            if (pool->idle.contains(address)) return true;
        }
    }
    return false;
}

}  // namespace

bool is_imported_pool(CUmemoryPool pool) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(pool);
    return found && found->imported;
}

CUresult free_of_pool(CUdeviceptr address, bool& of_pool) {
    const std::lock_guard held(lock);
    const auto found = blocks().find(address);
    of_pool = found != blocks().end() || is_idle(address);
    if (!of_pool) return CUDA_SUCCESS;
    if (found == blocks().end()) return CUDA_ERROR_INVALID_VALUE;
    found->second.pool->used -= found->second.size;
    blocks().erase(found);
    return device_memory().free(address);
}

void forget_pool_blocks(const Context* context) {
    const std::lock_guard held(lock);
    std::erase_if(blocks(), [&](const auto& entry) {
        if (entry.second.context != context) return false;
        entry.second.pool->used -= entry.second.size;
        return true;
    });
    for (auto& [device, pools] : device_pools()) {
        for (MemoryPool* pool : pools.all) {
            std::erase_if(pool->idle, [&](const auto& entry) {
                if (entry.second.context != context) return false;
                pool->idle_bytes -= entry.second.size;
                return true;
            });
        }
    }
}

namespace {

// In a captured stream an allocation is a node of the graph, and so is its end.
template <class Add>
CUresult add_to_capture(CUstream stream, Add add) {
    CUstreamCaptureStatus status{};
    cuuint64_t id = 0;
    CUgraph graph = nullptr;
    const CUgraphNode* known = nullptr;
    size_t count = 0;
    if (const CUresult failure = shim::cuStreamGetCaptureInfo_v2(stream, &status, &id, &graph, &known, &count)) {
        return failure;
    }
    const std::vector<CUgraphNode> dependencies(known, known + count);
    CUgraphNode node = nullptr;
    if (const CUresult failure = add(&node, graph, dependencies.data(), count)) return failure;
    return shim::cuStreamUpdateCaptureDependencies(stream, &node, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES);
}

CUresult allocate_in_graph(CUdeviceptr* address, size_t size, CUdevice device, CUstream stream) {
    if (!address || !size) return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEM_ALLOC_NODE_PARAMS parameters{};
    parameters.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    parameters.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    parameters.poolProps.location.id = device;
    parameters.bytesize = size;
    const CUresult result =
        add_to_capture(stream, [&](CUgraphNode* node, CUgraph graph, const CUgraphNode* before, size_t count) {
            return shim::cuGraphAddMemAllocNode(node, graph, before, count, &parameters);
        });
    if (!result) *address = parameters.dptr;
    return result;
}

CUresult free_in_graph(CUdeviceptr address, CUstream stream) {
    return add_to_capture(stream, [&](CUgraphNode* node, CUgraph graph, const CUgraphNode* before, size_t count) {
        return shim::cuGraphAddMemFreeNode(node, graph, before, count, address);
    });
}

}  // namespace

namespace shim {

CUresult cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(hStream, capturing)) return failure;
    if (capturing) return allocate_in_graph(dptr, bytesize, context->device, hStream);
    const std::lock_guard held(lock);
    return allocate(dptr, bytesize, *pools_of(context->device).in_use, hStream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    const std::lock_guard held(lock);
    MemoryPool* from = find_pool(pool);
    return from ? allocate(dptr, bytesize, *from, hStream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    if (const CUresult sticky = context->sticky) return sticky;
    if (!dptr) return CUDA_SUCCESS;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(hStream, capturing)) return failure;
    if (capturing) return free_in_graph(dptr, hStream);
    const std::lock_guard held(lock);
    const auto found = blocks().find(dptr);
    if (found == blocks().end()) {
        CUdeviceptr base = 0;
        Stretch stretch;
        const bool known = device_memory().find(dptr, base, stretch) && base == dptr;
        if (known && stretch.origin == Stretch::Origin::of_graph) return free_memory_of_graph(dptr, hStream, true);
        if (known && stretch.origin == Stretch::Origin::imported) return shim::cuIpcCloseMemHandle(dptr);
        return is_idle(dptr) ? CUDA_ERROR_INVALID_VALUE : device_memory().free(dptr);
    }
    const Block block = found->second;
    blocks().erase(found);
    return give_back(dptr, block, hStream);
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
    if (!pool || !poolProps || poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
    const unsigned wanted = poolProps->handleTypes;
    if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        (wanted & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR})) {
        return CUDA_ERROR_NOT_SUPPORTED;  // host memory, and handles of other systems
    }
    if (!client().device(poolProps->location.id)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    MemoryPool* made = make_pool(poolProps->location.id, false);
    made->most = poolProps->maxSize;
    made->exportable = wanted != 0;
    pools_of(poolProps->location.id).all.push_back(made);
    *pool = from_handle<CUmemoryPool>(made->handle);
    return CUDA_SUCCESS;
}

// The descriptor says no more than that it is a pool, and whose GPU's: its pieces have names of their own.
CUresult cuMemPoolExportToShareableHandle(void* handle_out, CUmemoryPool pool, CUmemAllocationHandleType handleType,
                                          unsigned long long flags) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(pool);
    if (!handle_out || !found || flags || !found->exportable) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    const int descriptor = write_name({.what = SharedName::What::pool, .place = client().device(found->device)->place});
    if (descriptor < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    std::memcpy(handle_out, &descriptor, sizeof descriptor);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool* pool_out, void* handle, CUmemAllocationHandleType handleType,
                                            unsigned long long flags) {
    SharedName name;
    CUdevice device = 0;
    if (!pool_out || flags) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    if (!read_name(static_cast<int>(reinterpret_cast<intptr_t>(handle)), SharedName::What::pool, name, device)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const std::lock_guard held(lock);
    MemoryPool* made = make_pool(device, false);
    made->imported = true;
    pools_of(device).all.push_back(made);
    *pool_out = from_handle<CUmemoryPool>(made->handle);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    const std::lock_guard held(lock);
    MemoryPool* gone = find_pool(pool);
    if (!gone || gone->is_default) return CUDA_ERROR_INVALID_VALUE;
    DevicePools& pools = pools_of(gone->device);
    if (pools.in_use == gone) pools.in_use = pools.of_device;
    trim(*gone, 0);
    handles_table().forget(to_handle(pool));  // its blocks live on until they are freed, and its record with them
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice dev) {
    if (!pool_out) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    *pool_out = from_handle<CUmemoryPool>(pools_of(dev).of_device->handle);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    *pool = from_handle<CUmemoryPool>(pools_of(dev).in_use->handle);
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    MemoryPool* wanted = find_pool(pool);
    if (!wanted || wanted->device != dev) return CUDA_ERROR_INVALID_VALUE;
    pools_of(dev).in_use = wanted;
    return CUDA_SUCCESS;
}

namespace {

CUresult check_location(const CUmemLocation* location, CUmemAllocationType type) {
    if (!location || location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(location->id)) return CUDA_ERROR_INVALID_DEVICE;
    return type == CU_MEM_ALLOCATION_TYPE_PINNED ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool_out, CUmemLocation* location, CUmemAllocationType type) {
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceGetDefaultMemPool(pool_out, location->id);
}
CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceGetMemPool(pool, location->id);
}
CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceSetMemPool(location->id, pool);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
    const std::lock_guard held(lock);
    MemoryPool* found = find_pool(pool);
    if (!found) return CUDA_ERROR_INVALID_VALUE;
    trim(*found, minBytesToKeep);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(pool);
    if (!found || !value) return CUDA_ERROR_INVALID_VALUE;
    switch (attr) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = found->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = device_memory().mapped(found->arena);
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            *static_cast<cuuint64_t*>(value) = found->used_high;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            *static_cast<cuuint64_t*>(value) = found->reserved_high;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            *static_cast<cuuint64_t*>(value) = found->attributes.at(attr);
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            *static_cast<int*>(value) = static_cast<int>(found->attributes.at(attr));
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    const std::lock_guard held(lock);
    MemoryPool* found = find_pool(pool);
    if (!found || !value) return CUDA_ERROR_INVALID_VALUE;
    switch (attr) {
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            if (*static_cast<cuuint64_t*>(value)) return CUDA_ERROR_INVALID_VALUE;  // may only be reset
            if (attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH) found->used_high = found->used;
            if (attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) found->reserved_high = device_memory().mapped(found->arena);
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            found->attributes[attr] = *static_cast<cuuint64_t*>(value);
            trim(*found, found->attributes[attr]);
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            found->attributes[attr] = *static_cast<int*>(value) != 0;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
    const std::lock_guard held(lock);
    MemoryPool* found = find_pool(pool);
    if (!found || !count || !map) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i) {
        if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
        if (!client().device(map[i].location.id)) return CUDA_ERROR_INVALID_DEVICE;
        if (map[i].location.id == found->device && map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
            return CUDA_ERROR_INVALID_VALUE;  // the pool's own GPU always reaches it
        }
        const Device &own = *client().device(found->device), &other = *client().device(map[i].location.id);
        const bool none = map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE;
        if (&own != &other && !none && !can_access(other, own)) return CUDA_ERROR_INVALID_DEVICE;
    }
    for (size_t i = 0; i < count; ++i) {
        if (map[i].location.id == found->device) continue;
        const CUresult failure = device_memory().set_rights(found->arena, map[i].location.id, map[i].flags);
        if (failure) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool memPool, CUmemLocation* location) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(memPool);
    if (!flags || !found || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(location->id)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = location->id == found->device ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                           : device_memory().rights(found->arena, location->id);
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
