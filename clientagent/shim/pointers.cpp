// cuPointerGetAttribute(s): what the client's maps say of an address.
#include <cstring>

#include "device_memory.h"
#include "host_memory.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

template <class T>
CUresult put(void* place, const T& value) {
    std::memcpy(place, &value, sizeof value);
    return CUDA_SUCCESS;
}

CUresult of_device(void* data, CUpointer_attribute attribute, CUdeviceptr address, CUdeviceptr base,
                   const Stretch& stretch) {
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            if (!stretch.context) return CUDA_ERROR_INVALID_VALUE;
            return put(data, from_handle<CUcontext>(stretch.context->handle));
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return put(data, unsigned{CU_MEMORYTYPE_DEVICE});
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            return put(data, address);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (!stretch.is_managed()) return CUDA_ERROR_INVALID_VALUE;
            return put(data, address);
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            return put(data, static_cast<unsigned>(stretch.is_managed()));
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            return put(data, 0U);
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            return put(data, static_cast<unsigned>(stretch.origin == Stretch::Origin::allocated ||
                                                   stretch.origin == Stretch::Origin::carved));
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            return put(data, stretch.id);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return put(data, stretch.device);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            return put(data, base);
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            return put(data, size_t{stretch.size});
        case CU_POINTER_ATTRIBUTE_MAPPED:
            return put(data, 1U);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            return put(data, uint64_t{CU_MEM_HANDLE_TYPE_NONE});
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            return put(data, static_cast<unsigned>(device_memory().rights(stretch, current_context())));
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            return put(data, CUmemoryPool{});
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult of_host(void* data, CUpointer_attribute attribute, CUdeviceptr address, uintptr_t base,
                 const PinnedBlock& block) {
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            if (!block.context) return CUDA_ERROR_INVALID_VALUE;
            return put(data, from_handle<CUcontext>(block.context->handle));
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return put(data, unsigned{CU_MEMORYTYPE_HOST});
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            return put(data, address);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return put(data, block.context ? block.context->device : 0);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            return put(data, uint64_t{base});
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            return put(data, size_t{block.size});
        case CU_POINTER_ATTRIBUTE_MAPPED:
            return put(data, 1U);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            return put(data, uint64_t{base});
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            return put(data, unsigned{CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE});
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            return put(data, uint64_t{0});
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            return put(data, 0U);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

// What cuPointerGetAttributes says of memory that CUDA does not know.
void of_unknown(void* data, CUpointer_attribute attribute) {
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            put(data, int{CU_DEVICE_INVALID});
            return;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_MAPPED:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            put(data, 0U);
            return;
        default:
            put(data, uint64_t{0});
    }
}

// INVALID_VALUE with `known` false: no memory of CUDA's.
CUresult tell(void* data, CUpointer_attribute attribute, CUdeviceptr address, bool& known) {
    CUdeviceptr base = 0;
    Stretch stretch;
    known = true;
    if (device_memory().find(address, base, stretch)) return of_device(data, attribute, address, base, stretch);
    uintptr_t start = 0;
    PinnedBlock block;
    if (host_memory().find(reinterpret_cast<const void*>(address), start, block)) {
        return of_host(data, attribute, address, start, block);
    }
    known = false;
    return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
    if (!data) return CUDA_ERROR_INVALID_VALUE;
    bool known = false;
    return tell(data, attribute, ptr, known);
}

CUresult cuPointerGetAttributes(unsigned numAttributes, CUpointer_attribute* attributes, void** data, CUdeviceptr ptr) {
    if (!numAttributes || !attributes || !data) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < numAttributes; ++i) {
        if (!data[i]) return CUDA_ERROR_INVALID_VALUE;
        bool known = false;
        if (tell(data[i], attributes[i], ptr, known)) of_unknown(data[i], attributes[i]);
    }
    return CUDA_SUCCESS;
}

}  // namespace gpuferry::shim
