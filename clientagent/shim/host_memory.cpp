#include "host_memory.h"

#include <sys/mman.h>

#include "contexts.h"
#include "shim_calls.h"

namespace gpuferry {

HostMemory& host_memory() {
    static auto* only = new HostMemory;
    return *only;
}

bool HostMemory::find(const void* address, uintptr_t& base, PinnedBlock& block) {
    const std::lock_guard held(lock_);
    const auto where = reinterpret_cast<uintptr_t>(address);
    auto at = blocks_.upper_bound(where);
    if (at == blocks_.begin()) return false;
    --at;
    if (where - at->first >= at->second.size) return false;
    base = at->first;
    block = at->second;
    return true;
}

bool HostMemory::is_pinned(const void* start, size_t size) {
    uintptr_t base = 0;
    PinnedBlock block;
    return find(start, base, block) && size <= block.size - (reinterpret_cast<uintptr_t>(start) - base);
}

bool HostMemory::add(const void* start, const PinnedBlock& block) {
    const std::lock_guard held(lock_);
    const auto first = reinterpret_cast<uintptr_t>(start);
    const auto next = blocks_.lower_bound(first);
    if (next != blocks_.end() && next->first < first + block.size) return false;
    if (next != blocks_.begin()) {
        const auto before = std::prev(next);
        if (before->first + before->second.size > first) return false;
    }
    blocks_[first] = block;
    return true;
}

bool HostMemory::remove(const void* start, bool registered, PinnedBlock& block) {
    const std::lock_guard held(lock_);
    const auto found = blocks_.find(reinterpret_cast<uintptr_t>(start));
    if (found == blocks_.end() || found->second.registered != registered) return false;
    block = found->second;
    blocks_.erase(found);
    return true;
}

namespace shim {

CUresult cuMemHostAlloc(void** pp, size_t bytesize, unsigned Flags) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!pp) return CUDA_ERROR_INVALID_VALUE;
    constexpr unsigned known = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    if (Flags & ~known) return CUDA_ERROR_INVALID_VALUE;
    *pp = nullptr;
    if (!bytesize) return CUDA_SUCCESS;
    void* memory = mmap(nullptr, bytesize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    host_memory().add(memory, {bytesize, Flags, false, current_context()});
    *pp = memory;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocHost_v2(void** pp, size_t bytesize) {
    return shim::cuMemHostAlloc(pp, bytesize, 0);
}

CUresult cuMemFreeHost(void* p) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p) return CUDA_SUCCESS;
    PinnedBlock block;
    if (!host_memory().remove(p, false, block)) return CUDA_ERROR_INVALID_VALUE;
    // As CUDA does: copies from and to this memory are over when it goes.
    const CUresult result = shim::cuCtxSynchronize();
    munmap(p, block.size);
    return result;
}

CUresult cuMemHostRegister_v2(void* p, size_t bytesize, unsigned Flags) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p || !bytesize) return CUDA_ERROR_INVALID_VALUE;
    return host_memory().add(p, {bytesize, Flags, true, current_context()}) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

CUresult cuMemHostUnregister(void* p) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p) return CUDA_ERROR_INVALID_VALUE;
    PinnedBlock block;
    if (!host_memory().remove(p, true, block)) {
        uintptr_t base = 0;
        return host_memory().find(p, base, block) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    return shim::cuCtxSynchronize();
}

CUresult cuMemHostGetFlags(unsigned* pFlags, void* p) {
    uintptr_t base = 0;
    PinnedBlock block;
    if (!pFlags || !host_memory().find(p, base, block)) return CUDA_ERROR_INVALID_VALUE;
    *pFlags = block.flags | CU_MEMHOSTALLOC_DEVICEMAP;
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
