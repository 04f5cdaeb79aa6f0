// Virtual memory management: cuMemAddressReserve, cuMemCreate, cuMemMap and their kin.
#include "device/mapping.h"

#include <unistd.h>

#include <cstring>

#include "api/entry.h"
#include "api/free.h"
#include "device/context.h"

using namespace softgpu;

namespace {

// The device of a location, null for the host. Throws INVALID_VALUE, INVALID_DEVICE.
Device* device_of(const CUmemLocation& location) {
    switch (location.type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
            return &require_device(location.id);
        case CU_MEM_LOCATION_TYPE_HOST:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
            return nullptr;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown location");
    }
}

Device* check_properties(const CUmemAllocationProp* properties) {
    check_value(properties && properties->type == CU_MEM_ALLOCATION_TYPE_PINNED, "only pinned allocations exist");
    if (properties->requestedHandleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) {
        throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "only file descriptors can be exported");
    }
    return device_of(properties->location);
}

}  // namespace

extern "C" CUresult CUDAAPI cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                                          CUmemAllocationGranularity_flags option) {
    return entry(__func__, [&] {
        check_properties(prop);
        check_value(granularity &&
                        (option == CU_MEM_ALLOC_GRANULARITY_MINIMUM || option == CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
                    "an argument is NULL or unknown");
        *granularity = mapping_granule;
    });
}

extern "C" CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                                                unsigned long long flags) {
    return entry(__func__, [&] {
        check_value(ptr && flags == 0, "ptr is NULL or flags are not 0");
        *ptr = reserve_addresses(size, alignment, addr);
    });
}

extern "C" CUresult CUDAAPI cuMemAddressFree(CUdeviceptr ptr, size_t size) {
    return entry(__func__, [&] { free_addresses(ptr, size); });
}

extern "C" CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                                        const CUmemAllocationProp* prop, unsigned long long flags) {
    return entry(__func__, [&] {
        check_value(handle && flags == 0, "handle is NULL or flags are not 0");
        check_value(size != 0 && size % mapping_granule == 0, "size is no multiple of the granularity");
        Device* device = check_properties(prop);
        *handle = handle_of(*MemoryHandle::create(device, size, *prop));
    });
}

extern "C" CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle) {
    return entry(__func__, [&] {
        // The memory itself stays while it is mapped.
        const auto memory = require<MemoryHandle>(handle);
        if (memory->references.fetch_sub(1) == 1) withdraw<MemoryHandle>(handle);
    });
}

extern "C" CUresult CUDAAPI cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
    return entry(__func__, [&] {
        check_value(handle, "handle is NULL");
        const auto mapping = memory_map().find(reinterpret_cast<uint64_t>(addr));
        check_value(mapping && mapping->backing, "the address is in no mapping");
        auto& memory = mapping->backing;
        // All references given back while it was mapped: the handle that it had is its own again.
        if (memory->references.fetch_add(1) == 0) {
            publish(memory);
        }
        *handle = handle_of(*memory);
    });
}

extern "C" CUresult CUDAAPI cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                                     unsigned long long flags) {
    return entry(__func__, [&] {
        check_value(flags == 0, "flags are not 0");
        map_memory(ptr, size, offset, require<MemoryHandle>(handle));
    });
}

extern "C" CUresult CUDAAPI cuMemUnmap(CUdeviceptr ptr, size_t size) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        await_device(nullptr);
        unmap_memory(ptr, size);
    });
}

extern "C" CUresult CUDAAPI cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc, size_t count) {
    return entry(__func__, [&] {
        check_value(desc && count, "desc is NULL or count is 0");
        set_mapping_access(ptr, size, desc, count);
    });
}

extern "C" CUresult CUDAAPI cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr ptr) {
    return entry(__func__, [&] {
        check_value(flags && location, "an argument is NULL");
        const auto mapping = memory_map().find(ptr);
        check_value(mapping && mapping->kind == MemoryKind::mapping, "the address is in no mapping");
        const Device* device = device_of(*location);
        if (!device) {
            *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            return;
        }
        const auto allowed = [&](uint64_t mask) { return mask >> device->ordinal() & 1; };
        *flags = allowed(mapping->writable_by)   ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                 : allowed(mapping->readable_by) ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                                 : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    });
}

extern "C" CUresult CUDAAPI cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                                   CUmemGenericAllocationHandle handle) {
    return entry(__func__, [&] {
        const auto memory = require<MemoryHandle>(handle);
        check_value(prop, "prop is NULL");
        *prop = memory->properties();
    });
}

extern "C" CUresult CUDAAPI cuMemExportToShareableHandle(void* shareableHandle, CUmemGenericAllocationHandle handle,
                                                         CUmemAllocationHandleType handleType,
                                                         unsigned long long flags) {
    return entry(__func__, [&] {
        const auto memory = require<MemoryHandle>(handle);
        check_value(shareableHandle && flags == 0, "shareableHandle is NULL or flags are not 0");
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
        const int descriptor = memory->export_descriptor();
        std::memcpy(shareableHandle, &descriptor, sizeof descriptor);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* osHandle,
                                                           CUmemAllocationHandleType shHandleType) {
    return entry(__func__, [&] {
        check_value(handle, "handle is NULL");
        if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
        // The descriptor itself is passed where a pointer would be.
        *handle = handle_of(*MemoryHandle::import(static_cast<int>(reinterpret_cast<intptr_t>(osHandle))));
        return CUDA_SUCCESS;
    });
}
