// Device memory: allocation, freeing, how much there is, which allocation an address is of.
#include <algorithm>

#include "api/entry.h"
#include "api/free.h"
#include "device/capture.h"
#include "device/context.h"
#include "device/device.h"
#include "device/pool.h"
#include "device/release.h"
#include "device/sizes.h"

using namespace softgpu;

namespace {
constexpr size_t pitch_unit = 512;  // bytes
}

namespace softgpu {

void await_device(const Device* device) {
    for (const auto& context : living_contexts(device)) context->drain();
}

}  // namespace softgpu

extern "C" CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr* dptr, size_t bytesize) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(dptr && bytesize, "dptr is NULL or no bytes are wanted");
        forbid_during_capture();
        *dptr = context.device().allocate(&context, bytesize, MemoryKind::device)->begin;
    });
}

extern "C" CUresult CUDAAPI cuMemAllocPitch_v2(CUdeviceptr* dptr, size_t* pPitch, size_t WidthInBytes, size_t Height,
                                               unsigned ElementSizeBytes) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(dptr && pPitch && WidthInBytes && Height, "an argument is NULL or 0");
        check_value(ElementSizeBytes == 4 || ElementSizeBytes == 8 || ElementSizeBytes == 16,
                    "ElementSizeBytes is not 4, 8 or 16");
        forbid_during_capture();
        check_value(WidthInBytes < size_t{1} << 40 && Height < size_t{1} << 40, "the allocation is too large");
        const size_t pitch = round_up(WidthInBytes, pitch_unit);
        if (pitch > context.device().memory().capacity() / Height) return CUDA_ERROR_OUT_OF_MEMORY;
        *dptr = context.device().allocate(&context, pitch * Height, MemoryKind::device)->begin;
        *pPitch = pitch;
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemFree_v2(CUdeviceptr dptr) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        // The address says whose memory it is: no context need be current. One that has failed frees nothing.
        const auto current = Context::current();
        if (dptr == 0 || (current && current->alive())) Context::require_current();
        if (dptr == 0) return CUDA_SUCCESS;
        forbid_during_capture();
        const auto allocation = memory_map().find(dptr);
        check_value(allocation && allocation->begin == dptr && !allocation->internal && !allocation->freeing.load(),
                    "not the address of an allocation");
        check_value(allocation->kind == MemoryKind::device || allocation->kind == MemoryKind::managed ||
                        allocation->kind == MemoryKind::pool ||
                        (allocation->kind == MemoryKind::host_allocated && allocation->pool),
                    "the memory was not allocated by cuMemAlloc");
        for (const auto& context : living_contexts(allocation->device)) {
            if (context->id() == allocation->context_id) context->require_unfailed();
        }
        await_device(allocation->kind == MemoryKind::managed ? nullptr : allocation->device);
        release_allocation(allocation);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemGetInfo_v2(size_t* free, size_t* total) {
    return entry(__func__, [&] {
        DeviceMemory& memory = Context::require_current().device().memory();
        if (free) *free = memory.capacity() - std::min(memory.capacity(), memory.used());
        if (total) *total = memory.capacity();
    });
}

extern "C" CUresult CUDAAPI cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
    return entry(__func__, [&] {
        Context::require_current();
        const auto allocation = memory_map().find(dptr);
        if (!allocation) return CUDA_ERROR_NOT_FOUND;
        if (pbase) *pbase = allocation->begin;
        if (psize) *psize = allocation->size;
        return CUDA_SUCCESS;
    });
}
