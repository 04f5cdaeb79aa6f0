// cuMemAllocAsync and pools. Memory comes from the same window and budget as cuMemAlloc's, mapped before anything that
// is posted later; what cuMemFreeAsync frees is unmapped once the GPU is done with it. A pool is a name for that, with
// the attributes that programs set and read.
#include <map>

#include "call.h"
#include "device_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct MemoryPool {
    CUdevice device = 0;
    Handle handle = 0;
    bool is_default = false;
    std::map<int, cuuint64_t> attributes;
    std::map<int, CUmemAccess_flags> access;  // by device
    uint64_t used = 0, used_high = 0;         // bytes
};

std::mutex lock;
std::map<CUdeviceptr, std::pair<MemoryPool*, uint64_t>>& blocks() {
    static auto* all = new std::map<CUdeviceptr, std::pair<MemoryPool*, uint64_t>>;
    return *all;
}

struct DevicePools {
    MemoryPool* of_device = nullptr;
    MemoryPool* in_use = nullptr;
};
std::map<CUdevice, DevicePools>& device_pools() {
    static auto* all = new std::map<CUdevice, DevicePools>;
    return *all;
}

MemoryPool* make_pool(CUdevice device, bool is_default) {
    auto* pool = new MemoryPool;
    pool->device = device;
    pool->is_default = is_default;
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
    if (!pools.of_device) pools.of_device = pools.in_use = make_pool(device, true);
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

CUresult allocate(CUdeviceptr* address, size_t size, MemoryPool& pool) {
    Context* context = current_context();
    if (const CUresult sticky = context->sticky) return sticky;
    if (!address || !size) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = device_memory().allocate(context, size, *address, pool.device)) return failure;
    pool.used += size;
    pool.used_high = std::max(pool.used_high, pool.used);
    blocks()[*address] = {&pool, size};
    return CUDA_SUCCESS;
}

}  // namespace

namespace shim {

CUresult cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    const std::lock_guard held(lock);
    return allocate(dptr, bytesize, *pools_of(context->device).in_use);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    const std::lock_guard held(lock);
    MemoryPool* from = find_pool(pool);
    return from ? allocate(dptr, bytesize, *from) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    if (const CUresult sticky = context->sticky) return sticky;
    if (!dptr) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock);
    if (const auto found = blocks().find(dptr); found != blocks().end()) {
        found->second.first->used -= found->second.second;
        blocks().erase(found);
    }
    return device_memory().free(dptr);
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
    if (!pool || !poolProps || poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
    if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE || poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE) {
        return CUDA_ERROR_NOT_SUPPORTED;  // pools that other processes share come with a later step
    }
    if (!client().device(poolProps->location.id)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    *pool = from_handle<CUmemoryPool>(make_pool(poolProps->location.id, false)->handle);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    const std::lock_guard held(lock);
    MemoryPool* gone = find_pool(pool);
    if (!gone || gone->is_default) return CUDA_ERROR_INVALID_VALUE;
    DevicePools& pools = pools_of(gone->device);
    if (pools.in_use == gone) pools.in_use = pools.of_device;
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

// What is free is not mapped: there is nothing to trim.
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t) {
    const std::lock_guard held(lock);
    return find_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(pool);
    if (!found || !value) return CUDA_ERROR_INVALID_VALUE;
    switch (attr) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = found->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            *static_cast<cuuint64_t*>(value) = found->used_high;
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
            found->used_high = found->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            found->attributes[attr] = *static_cast<cuuint64_t*>(value);
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
    if (!found || (count && !map)) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i) {
        if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
        if (!client().device(map[i].location.id)) return CUDA_ERROR_INVALID_DEVICE;
        // Memory of one GPU that others reach as well comes with peer access to posted allocations.
        if (map[i].location.id != found->device && map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE) {
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        found->access[map[i].location.id] = map[i].flags;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool memPool, CUmemLocation* location) {
    const std::lock_guard held(lock);
    const MemoryPool* found = find_pool(memPool);
    if (!flags || !found || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(location->id)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = location->id == found->device ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
