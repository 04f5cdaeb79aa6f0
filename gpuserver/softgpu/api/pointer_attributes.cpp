// What an address is: cuPointerGetAttribute and its kin.
#include <cstring>

#include "api/entry.h"
#include "device/context.h"
#include "device/mapping.h"
#include "device/pool.h"

using namespace softgpu;

namespace {

template <class Value>
void put(void* out, const Value& value) {
    std::memcpy(out, &value, sizeof value);
}

unsigned handle_types(const Allocation& allocation) {
    if (allocation.backing) return allocation.backing->properties().requestedHandleTypes;
    if (allocation.pool && allocation.pool->exportable()) return CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    return CU_MEM_HANDLE_TYPE_NONE;
}

// CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: how the current device may access it.
int access_flags(const Allocation& allocation) {
    const auto context = Context::current();
    if (!context) return CU_POINTER_ATTRIBUTE_ACCESS_FLAG_NONE;
    const Range range = memory_map().accessible(allocation.begin, *context);
    if (range.begin == range.end) return CU_POINTER_ATTRIBUTE_ACCESS_FLAG_NONE;
    return range.writable ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ;
}

// Writes what there is to say of an address of `allocation`; false when the attribute does not apply to it.
bool tell(void* out, CUpointer_attribute attribute, CUdeviceptr address, const Allocation& allocation) {
    const bool host = allocation.is_host();
    const bool managed = allocation.kind == MemoryKind::managed;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            put(out, allocation.context);
            return allocation.context != nullptr;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            put(out, host ? unsigned{CU_MEMORYTYPE_HOST} : unsigned{CU_MEMORYTYPE_DEVICE});
            return true;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            put(out, address);
            return true;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (!host && !managed) return false;
            put(out, address);
            return true;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
            put(out, static_cast<unsigned>(allocation.sync_memops.load()));
            return true;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            put(out, allocation.buffer_id);
            return true;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            put(out, static_cast<unsigned>(managed));
            return true;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            put(out, allocation.device ? allocation.device->ordinal() : int{CU_DEVICE_CPU});
            return true;
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            put(out, static_cast<unsigned>(allocation.kind == MemoryKind::device));
            return true;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            put(out, allocation.begin);
            return true;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            put(out, size_t{allocation.size});
            return true;
        case CU_POINTER_ATTRIBUTE_MAPPED:
            put(out, 1U);
            return true;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            put(out, uint64_t{handle_types(allocation)});
            return true;
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            put(out, 0U);
            return true;
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            put(out, access_flags(allocation));
            return true;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            put(out, allocation.pool ? handle_of(*allocation.pool) : nullptr);
            return true;
        default:
            throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown attribute of a pointer");
    }
}

// What cuPointerGetAttributes says of memory that CUDA does not know.
void tell_unknown(void* out, CUpointer_attribute attribute) {
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return put(out, int{CU_DEVICE_INVALID});
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_MAPPED:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            return put(out, 0U);
        default:
            return put(out, uint64_t{0});
    }
}

}  // namespace

extern "C" CUresult CUDAAPI cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
    return entry(__func__, [&] {
        check_value(data, "data is NULL");
        const auto allocation = memory_map().find(ptr);
        check_value(allocation != nullptr, "the address is of no memory that CUDA knows");
        check_value(tell(data, attribute, ptr, *allocation), "the attribute does not apply to this memory");
    });
}

extern "C" CUresult CUDAAPI cuPointerGetAttributes(unsigned numAttributes, CUpointer_attribute* attributes, void** data,
                                                   CUdeviceptr ptr) {
    return entry(__func__, [&] {
        check_value(attributes && data && numAttributes, "an argument is NULL or 0");
        const auto allocation = memory_map().find(ptr);
        for (unsigned i = 0; i < numAttributes; ++i) {
            check_value(data[i], "data is NULL");
            if (!allocation || !tell(data[i], attributes[i], ptr, *allocation)) tell_unknown(data[i], attributes[i]);
        }
    });
}

extern "C" CUresult CUDAAPI cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr ptr) {
    return entry(__func__, [&] {
        check_value(value && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, "only SYNC_MEMOPS can be set");
        const auto allocation = memory_map().find(ptr);
        check_value(allocation && !allocation->is_host() && allocation->kind != MemoryKind::managed,
                    "the address is of no device memory");
        unsigned wanted = 0;
        std::memcpy(&wanted, value, sizeof wanted);
        allocation->sync_memops = wanted != 0;
    });
}
