// Host memory that kernels reach: allocated by CUDA or registered. One address serves both sides.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "api/entry.h"
#include "api/free.h"
#include "device/capture.h"
#include "device/context.h"
#include "device/release.h"
#include "device/sizes.h"

using namespace softgpu;

namespace {

uint64_t page_bytes() {
    return static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void allocate_host(void** out, size_t bytes, unsigned flags) {
    Context& context = Context::require_current();
    check_value(out, "pp is NULL");
    constexpr unsigned known = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    check_value((flags & ~known) == 0, "unknown flags");
    forbid_during_capture();
    if (bytes == 0) {
        *out = nullptr;
        return;
    }
    check_value(bytes < uint64_t{1} << 47, "no such size");
    const uint64_t length = round_up(bytes, page_bytes());
    void* place = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::strerror(errno));
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = reinterpret_cast<uint64_t>(place);
    allocation->size = bytes;
    allocation->kind = MemoryKind::host_allocated;
    allocation->device = &context.device();
    allocation->context_id = context.id();
    allocation->context = handle_of(context);
    allocation->flags = flags | CU_MEMHOSTALLOC_DEVICEMAP;  // unified addressing maps it in any case
    allocation->mapped_length = length;
    allocation->buffer_id = new_buffer_id();
    memory_map().insert(allocation);
    *out = place;
}

}  // namespace

extern "C" CUresult CUDAAPI cuMemHostAlloc(void** pp, size_t bytesize, unsigned Flags) {
    return entry(__func__, [&] { allocate_host(pp, bytesize, Flags); });
}

extern "C" CUresult CUDAAPI cuMemAllocHost_v2(void** pp, size_t bytesize) {
    return entry(__func__, [&] { allocate_host(pp, bytesize, 0); });
}

extern "C" CUresult CUDAAPI cuMemFreeHost(void* p) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context::require_current();
        forbid_during_capture();
        const auto allocation = memory_map().find(reinterpret_cast<uint64_t>(p));
        check_value(allocation && allocation->begin == reinterpret_cast<uint64_t>(p) &&
                        allocation->kind == MemoryKind::host_allocated && !allocation->pool,
                    "not the address of memory from cuMemHostAlloc");
        await_device(nullptr);
        release_allocation(allocation);
    });
}

extern "C" CUresult CUDAAPI cuMemHostGetDevicePointer_v2(CUdeviceptr* pdptr, void* p, unsigned Flags) {
    return entry(__func__, [&] {
        Context::require_current();
        check_value(pdptr && p && Flags == 0, "an argument is NULL or flags are not 0");
        const auto allocation = memory_map().find(reinterpret_cast<uint64_t>(p));
        check_value(allocation && allocation->is_host(), "the memory is neither allocated nor registered by CUDA");
        *pdptr = reinterpret_cast<CUdeviceptr>(p);
    });
}

extern "C" CUresult CUDAAPI cuMemHostGetFlags(unsigned* pFlags, void* p) {
    return entry(__func__, [&] {
        Context::require_current();
        check_value(pFlags && p, "an argument is NULL");
        const auto allocation = memory_map().find(reinterpret_cast<uint64_t>(p));
        check_value(allocation && allocation->kind == MemoryKind::host_allocated,
                    "the memory is not from cuMemHostAlloc");
        *pFlags = allocation->flags;
    });
}

extern "C" CUresult CUDAAPI cuMemHostRegister_v2(void* p, size_t bytesize, unsigned Flags) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(p && bytesize, "p is NULL or no bytes are given");
        constexpr unsigned known = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                   CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;
        check_value((Flags & ~known) == 0, "unknown flags");
        forbid_during_capture();
        const auto begin = reinterpret_cast<uint64_t>(p);
        check_value(begin + bytesize > begin, "the range wraps around");
        const uint64_t first = begin / page_bytes() * page_bytes();
        // ENOMEM: a page of it is not mapped.
        check_value(msync(reinterpret_cast<void*>(first), begin + bytesize - first, MS_ASYNC) == 0,
                    "the range is not mapped");
        auto allocation = std::make_shared<Allocation>();
        allocation->begin = begin;
        allocation->size = bytesize;
        allocation->kind = MemoryKind::host_registered;
        allocation->device = &context.device();
        allocation->context_id = context.id();
        allocation->context = handle_of(context);
        allocation->flags = Flags | CU_MEMHOSTREGISTER_DEVICEMAP;
        allocation->buffer_id = new_buffer_id();
        memory_map().insert(allocation);
    });
}

extern "C" CUresult CUDAAPI cuMemHostUnregister(void* p) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context::require_current();
        check_value(p, "p is NULL");
        forbid_during_capture();
        const auto allocation = memory_map().find(reinterpret_cast<uint64_t>(p));
        if (!allocation) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
        check_value(
            allocation->kind == MemoryKind::host_registered && allocation->begin == reinterpret_cast<uint64_t>(p),
            "not what was registered");
        await_device(nullptr);
        release_allocation(allocation);
        return CUDA_SUCCESS;
    });
}
