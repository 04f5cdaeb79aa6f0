#include "host_memory.h"

#include <sys/mman.h>

#include <vector>

#include "capture.h"
#include "contexts.h"
#include "deliveries.h"
#include "device_memory.h"
#include "pools.h"
#include "shim_calls.h"
#include "twins.h"

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
    ++count_;
    if (block.registered) ++registered_;
    return true;
}

bool HostMemory::remove(const void* start, bool registered, PinnedBlock& block) {
    const std::lock_guard held(lock_);
    const auto found = blocks_.find(reinterpret_cast<uintptr_t>(start));
    if (found == blocks_.end() || found->second.registered != registered) return false;
    block = found->second;
    blocks_.erase(found);
    --count_;
    if (registered) --registered_;
    return true;
}

void HostMemory::set_device_address(uintptr_t base, uint64_t address) {
    const std::lock_guard held(lock_);
    if (const auto found = blocks_.find(base); found != blocks_.end()) found->second.device_address = address;
}

namespace {

constexpr uint64_t largest_address = 1ull << 47;

// Whether every page of the range belongs to this process.
bool is_mapped(const void* start, size_t size) {
    const auto first = reinterpret_cast<uintptr_t>(start) & ~uintptr_t{4095};
    const uintptr_t length = reinterpret_cast<uintptr_t>(start) + size - first;
    std::vector<unsigned char> pages((length + 4095) / 4096);
    return mincore(reinterpret_cast<void*>(first), length, pages.data()) == 0;
}

}  // namespace

namespace {

// The twin of registered memory ends: at the memory's own address, or at one of the window that is free again.
void end_registered(uintptr_t base, const PinnedBlock& block) {
    if (!block.device_address) return;
    const uint64_t start = block.device_address & ~uint64_t{4095};
    end_twin(start);
    if (block.device_address != base) give_host_addresses_back(start, block.size + (block.device_address - start));
}

}  // namespace

void drop_host_pages(void* memory, uint64_t size) {
    mmap(memory, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    give_host_addresses_back(reinterpret_cast<uint64_t>(memory), size);
}

void HostMemory::forget_context(const Context* context) {
    std::vector<std::pair<uintptr_t, PinnedBlock>> gone;
    {
        const std::lock_guard held(lock_);
        for (const auto& [base, block] : blocks_) {
            if (block.context == context) gone.emplace_back(base, block);
        }
        for (const auto& [base, block] : gone) {
            blocks_.erase(base);
            --count_;
            if (block.registered) --registered_;
        }
    }
    for (const auto& [base, block] : gone) {
        forget_copies(reinterpret_cast<void*>(base), block.size);
        if (!block.registered) {
            end_twin(base);
            drop_host_pages(reinterpret_cast<void*>(base), block.size);
        } else {
            end_registered(base, block);
        }
    }
}

namespace shim {

CUresult cuMemHostAlloc(void** pp, size_t bytesize, unsigned Flags) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!pp) return CUDA_ERROR_INVALID_VALUE;
    constexpr unsigned known = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    if (Flags & ~known) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = forbid_during_capture()) return failure;
    *pp = nullptr;
    if (!bytesize) return CUDA_SUCCESS;
    if (bytesize > largest_address) return CUDA_ERROR_INVALID_VALUE;
    if (bytesize > client().snapshot().host_size / 4) return CUDA_ERROR_OUT_OF_MEMORY;
    // At addresses that the server keeps free, so that a kernel can be given this very pointer.
    const uint64_t address = take_host_addresses(bytesize);
    if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
    void* memory = mmap(reinterpret_cast<void*>(address), bytesize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (memory == MAP_FAILED) {
        give_host_addresses_back(address, bytesize);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
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
    if (const CUresult failure = forbid_during_capture()) return failure;
    PinnedBlock block;
    if (is_of_host_pool(p) || !host_memory().remove(p, false, block)) return CUDA_ERROR_INVALID_VALUE;
    // As CUDA does: copies from and to this memory are over when it goes.
    const CUresult result = shim::cuCtxSynchronize();
    end_twin(reinterpret_cast<uint64_t>(p));
    drop_host_pages(p, block.size);
    return result;
}

CUresult cuMemHostRegister_v2(void* p, size_t bytesize, unsigned Flags) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p || !bytesize || !is_mapped(p, bytesize)) return CUDA_ERROR_INVALID_VALUE;
    return host_memory().add(p, {bytesize, Flags, true, current_context()}) ? CUDA_SUCCESS
                                                                            : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

CUresult cuMemHostUnregister(void* p) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p) return CUDA_ERROR_INVALID_VALUE;
    PinnedBlock block;
    if (!host_memory().remove(p, true, block)) {
        uintptr_t base = 0;
        return host_memory().find(p, base, block) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    const CUresult result = shim::cuCtxSynchronize();
    end_registered(reinterpret_cast<uintptr_t>(p), block);
    return result;
}

// Allocated memory has its twin at its own address. So has registered memory where the server's process has nothing at
// that address; else it is at one of the window, as the device's attribute warns.
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* pdptr, void* p, unsigned Flags) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    uintptr_t base = 0;
    PinnedBlock block;
    if (!pdptr || Flags || !host_memory().find(p, base, block)) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t offset = reinterpret_cast<uint64_t>(p) - base;
    if (!block.registered) {
        *pdptr = base + offset;
        return make_twin(reinterpret_cast<void*>(base), base, block.size);
    }
    static auto& placing = *new std::mutex;
    const std::lock_guard held(placing);
    host_memory().find(p, base, block);  // another thread may have been here
    const uint64_t in_page = base & 4095;
    // The page that the memory begins in may hold other things of the program's.
    if (!block.device_address &&
        make_twin_in_place(reinterpret_cast<void*>(base - in_page), block.size + in_page, in_page)) {
        block.device_address = base;
        host_memory().set_device_address(base, base);
    }
    if (!block.device_address) {
        const uint64_t start = take_host_addresses(block.size + in_page);
        if (!start) return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result =
            make_registered_twin(reinterpret_cast<void*>(base - in_page), start, block.size + in_page, in_page);
        if (result) {
            give_host_addresses_back(start, block.size + in_page);
            return result;
        }
        block.device_address = start + in_page;
        host_memory().set_device_address(base, block.device_address);
    }
    *pdptr = block.device_address + offset;
    return CUDA_SUCCESS;
}

// Managed memory: one address on both sides. The server's twin is pinned memory that its GPU reaches.
CUresult cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned flags) {
    Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!dptr || !bytesize || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult failure = forbid_during_capture()) return failure;
    if (bytesize > largest_address) return CUDA_ERROR_OUT_OF_MEMORY;
    const uint64_t size = (bytesize + 4095) & ~uint64_t{4095};
    if (!device_memory().charge(context->device, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    const uint64_t address = take_host_addresses(size);
    void* memory = reinterpret_cast<void*>(address);
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    if (address &&
        mmap(memory, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory) {
        result = make_twin(memory, address, size, client().device(context->device));
    }
    if (result) {
        device_memory().discharge(context->device, size);
        if (address) drop_host_pages(memory, size);
        return result;
    }
    device_memory().add_foreign(address, bytesize, context, Stretch::Origin::managed, context->device);
    *dptr = address;
    return CUDA_SUCCESS;
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
