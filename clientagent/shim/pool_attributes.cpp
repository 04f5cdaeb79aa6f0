// cuMemPoolGetAttribute and its kin: what programs set and ask of a pool, and who reaches its memory.
#include <span>

#include "memory_pool.h"
#include "peers.h"
#include "shim_calls.h"

namespace gpuferry::shim {

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    const std::lock_guard held(pools_lock());
    const MemoryPool* found = find_pool(pool);
    if (!found || !value) return CUDA_ERROR_INVALID_VALUE;
    switch (attr) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = found->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            *static_cast<cuuint64_t*>(value) = found->reserved();
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
        case CU_MEMPOOL_ATTR_ALLOCATION_TYPE:
            *static_cast<int*>(value) = CU_MEM_ALLOCATION_TYPE_PINNED;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES:
            *static_cast<int*>(value) =
                found->exportable ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_LOCATION_ID:
            *static_cast<int*>(value) = found->location.id;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_LOCATION_TYPE:
            *static_cast<int*>(value) = found->location.type;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    const std::lock_guard held(pools_lock());
    MemoryPool* found = find_pool(pool);
    if (!found || !value) return CUDA_ERROR_INVALID_VALUE;
    switch (attr) {
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            if (*static_cast<cuuint64_t*>(value)) return CUDA_ERROR_INVALID_VALUE;  // may only be reset
            if (attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH) found->used_high = found->used;
            if (attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) found->reserved_high = found->reserved();
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

namespace {

// The host itself always reaches it; so do its GPUs here, whatever is asked: their twins are theirs.
CUresult set_host_access(MemoryPool& pool, std::span<const CUmemAccessDesc> map) {
    for (const CUmemAccessDesc& access : map) {
        if (is_host(access.location)) {
            if (access.flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) return CUDA_ERROR_INVALID_VALUE;
        } else if (access.location.type != CU_MEM_LOCATION_TYPE_DEVICE || !client().device(access.location.id)) {
            return CUDA_ERROR_INVALID_DEVICE;
        }
    }
    for (const CUmemAccessDesc& access : map) {
        if (!is_host(access.location)) pool.rights[access.location.id] = access.flags;
    }
    return CUDA_SUCCESS;
}

}  // namespace

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
    const std::lock_guard held(pools_lock());
    MemoryPool* found = find_pool(pool);
    if (!found || !count || !map) return CUDA_ERROR_INVALID_VALUE;
    if (found->on_host()) return set_host_access(*found, {map, count});
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
    const std::lock_guard held(pools_lock());
    const MemoryPool* found = find_pool(memPool);
    if (flags && found && location && found->on_host() && is_host(*location)) {
        *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        return CUDA_SUCCESS;
    }
    if (!flags || !found || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(location->id)) return CUDA_ERROR_INVALID_DEVICE;
    if (found->on_host()) {
        const auto right = found->rights.find(location->id);
        *flags = right == found->rights.end() ? CU_MEM_ACCESS_FLAGS_PROT_NONE : right->second;
        return CUDA_SUCCESS;
    }
    *flags = location->id == found->device ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                           : device_memory().rights(found->arena, location->id);
    return CUDA_SUCCESS;
}

}  // namespace gpuferry::shim
