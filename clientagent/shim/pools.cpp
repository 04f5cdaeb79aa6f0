// cuMemAllocAsync and pools. Memory comes from the same window and budget as cuMemAlloc's, mapped before anything that
// is posted later; what cuMemFreeAsync frees is unmapped once the GPU is done with it. A pool is a name for that, with
// the attributes that programs set and read. Pools on the host give out pinned memory, each piece with its twin.
#include "pools.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "call.h"
#include "capture.h"
#include "deliveries.h"
#include "device_memory.h"
#include "host_memory.h"
#include "memory_pool.h"
#include "shared_names.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {

std::mutex& pools_lock() {
    static auto& mutex = *new std::mutex;
    return mutex;
}

MemoryPool* find_pool(CUmemoryPool pool) {
    return handles_table().find<MemoryPool>(Kind::memory_pool, to_handle(pool));
}

// Nothing of the GPU's uses it any more.
static void free_on_host(CUdeviceptr address) {
    PinnedBlock block;
    void* memory = reinterpret_cast<void*>(address);
    if (!host_memory().remove(memory, false, block)) return;
    forget_copies(memory, block.size);
    end_twin(address);
    drop_host_pages(memory, block.size);
}

void trim(MemoryPool& pool, uint64_t keep) {
    if (pool.on_host() && !pool.idle.empty() && pool.reserved() > keep) shim::cuCtxSynchronize();
    while (!pool.idle.empty() && pool.reserved() > keep) {
        const auto first = pool.idle.begin();
        pool.idle_bytes -= first->second.size;
        pool.on_host() ? free_on_host(first->first) : static_cast<void>(device_memory().free(first->first));
        pool.idle.erase(first);
    }
}

namespace {

struct Block {
    MemoryPool* pool = nullptr;
    uint64_t size = 0;
    const Context* context = nullptr;
};

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
    pool->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    pool->location.id = device;
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

// Those of the host itself. The caller holds the lock.
struct HostPools {
    MemoryPool* of_host = nullptr;
    MemoryPool* in_use = nullptr;
};
HostPools& host_pools() {
    static HostPools pools;
    if (!pools.of_host) {
        pools.of_host = pools.in_use = make_pool(0, true);
        pools.of_host->location = {};
        pools.of_host->location.type = CU_MEM_LOCATION_TYPE_HOST;
        pools_of(0).all.push_back(pools.of_host);
        for (size_t i = 0; i < client().snapshot().devices.size(); ++i) {
            pools.of_host->rights[static_cast<CUdevice>(i)] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        }
    }
    return pools;
}

CUresult check_stream(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    return CUDA_SUCCESS;
}

constexpr uint64_t page = 4096, most_idle_on_host = 256u << 20;

// Pinned memory at an address that the GPU knows as well.
CUresult allocate_on_host(size_t size, CUdeviceptr& address) {
    void* memory = nullptr;
    CUresult result = shim::cuMemHostAlloc(&memory, size, CU_MEMHOSTALLOC_PORTABLE);
    if (result == CUDA_ERROR_INVALID_VALUE) return CUDA_ERROR_OUT_OF_MEMORY;  // a size beyond all addresses
    address = reinterpret_cast<CUdeviceptr>(memory);
    if (!result) result = make_twin(memory, address, size);
    if (result && memory) free_on_host(address);
    return result;
}

CUresult allocate(CUdeviceptr* address, size_t size, MemoryPool& pool, CUstream stream) {
    Context* context = current_context();
    if (const CUresult sticky = context->sticky) return sticky;
    if (!address || !size) return CUDA_ERROR_INVALID_VALUE;
    if (pool.imported) return CUDA_ERROR_NOT_SUPPORTED;  // its own process allocates
    if (pool.on_host()) {
        if (size > ~uint64_t{0} - page) return CUDA_ERROR_OUT_OF_MEMORY;
        size = (size + page - 1) & ~(page - 1);
        if (pool.idle_bytes > most_idle_on_host) trim(pool, 0);
    }
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
        const auto take = [&] {
            return pool.on_host() ? allocate_on_host(size, *address)
                                  : device_memory().allocate(context, size, *address, pool.device, &pool.arena);
        };
        CUresult result = take();
        if (result == CUDA_ERROR_OUT_OF_MEMORY && !pool.idle.empty()) {
            trim(pool, 0);
            result = take();
        }
        if (result) return result;
    }
    pool.used += size;
    pool.used_high = std::max(pool.used_high, pool.used);
    pool.reserved_high = std::max(pool.reserved_high, pool.reserved());
    blocks()[*address] = {&pool, size, context};
    return CUDA_SUCCESS;
}

// The block is free from the stream's turn on: kept below the pool's threshold, else given back.
CUresult give_back(CUdeviceptr address, const Block& block, CUstream stream) {
    MemoryPool& pool = *block.pool;
    const bool living = handles_table().living(Kind::memory_pool, pool.handle);
    pool.used -= block.size;
    // Memory of the host stays with its pool until that is trimmed: giving it back is a wait for the GPU.
    if (pool.on_host() && !living) {
        const CUresult result = shim::cuCtxSynchronize();
        free_on_host(address);
        return result;
    }
    if (!pool.on_host() && (!living || pool.reserved() > pool.attributes.at(CU_MEMPOOL_ATTR_RELEASE_THRESHOLD))) {
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
    const std::lock_guard held(pools_lock());
    const MemoryPool* found = find_pool(pool);
    return found && found->imported;
}

bool is_of_host_pool(const void* memory) {
    const std::lock_guard held(pools_lock());
    const auto found = blocks().find(reinterpret_cast<CUdeviceptr>(memory));
    return found == blocks().end() ? is_idle(reinterpret_cast<CUdeviceptr>(memory)) : found->second.pool->on_host();
}

CUresult free_of_pool(CUdeviceptr address, bool& of_pool) {
    std::unique_lock held(pools_lock());
    const auto found = blocks().find(address);
    of_pool = found != blocks().end() || is_idle(address);
    if (!of_pool) return CUDA_SUCCESS;
    if (found == blocks().end()) return CUDA_ERROR_INVALID_VALUE;
    const bool on_host = found->second.pool->on_host();
    found->second.pool->used -= found->second.size;
    blocks().erase(found);
    held.unlock();
    if (on_host) return shim::cuMemFreeHost(reinterpret_cast<void*>(address));
    return device_memory().free(address);
}

void forget_pool_blocks(const Context* context) {
    const std::lock_guard held(pools_lock());
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
    const std::lock_guard held(pools_lock());
    return allocate(dptr, bytesize, *pools_of(context->device).in_use, hStream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult failure = check_stream(hStream)) return failure;
    const std::lock_guard held(pools_lock());
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
    const std::lock_guard held(pools_lock());
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
    if (is_host(poolProps->location)) {
        if (poolProps->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && poolProps->location.id) {
            return CUDA_ERROR_INVALID_VALUE;  // a program sees one node: the server's are not this machine's
        }
        if (wanted) return CUDA_ERROR_NOT_SUPPORTED;
        const std::lock_guard held(pools_lock());
        MemoryPool* made = make_pool(current_context() ? current_context()->device : 0, false);
        made->location = poolProps->location;
        pools_of(made->device).all.push_back(made);
        made->most = poolProps->maxSize;
        *pool = from_handle<CUmemoryPool>(made->handle);
        return CUDA_SUCCESS;
    }
    if (poolProps->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT) return CUDA_ERROR_INVALID_VALUE;
    if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        (wanted & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR})) {
        return CUDA_ERROR_NOT_SUPPORTED;  // handles of other systems
    }
    if (!client().device(poolProps->location.id)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(pools_lock());
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
    const std::lock_guard held(pools_lock());
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
    const std::lock_guard held(pools_lock());
    MemoryPool* made = make_pool(device, false);
    made->imported = true;
    pools_of(device).all.push_back(made);
    *pool_out = from_handle<CUmemoryPool>(made->handle);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    const std::lock_guard held(pools_lock());
    MemoryPool* gone = find_pool(pool);
    if (!gone || gone->is_default) return CUDA_ERROR_INVALID_VALUE;
    if (gone->on_host()) {
        if (host_pools().in_use == gone) host_pools().in_use = host_pools().of_host;
        trim(*gone, 0);
        handles_table().forget(to_handle(pool));
        return CUDA_SUCCESS;
    }
    DevicePools& pools = pools_of(gone->device);
    if (pools.in_use == gone) pools.in_use = pools.of_device;
    trim(*gone, 0);
    handles_table().forget(to_handle(pool));  // its blocks live on until they are freed, and its record with them
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice dev) {
    if (!pool_out) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(pools_lock());
    *pool_out = from_handle<CUmemoryPool>(pools_of(dev).of_device->handle);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(pools_lock());
    *pool = from_handle<CUmemoryPool>(pools_of(dev).in_use->handle);
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(pools_lock());
    MemoryPool* wanted = find_pool(pool);
    if (!wanted || wanted->on_host() || wanted->device != dev) return CUDA_ERROR_INVALID_VALUE;
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
    if (location && is_host(*location)) {
        if (!pool_out || type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
        const std::lock_guard held(pools_lock());
        *pool_out = from_handle<CUmemoryPool>(host_pools().of_host->handle);
        return CUDA_SUCCESS;
    }
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceGetDefaultMemPool(pool_out, location->id);
}
CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
    if (location && is_host(*location)) {
        if (!pool || type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
        const std::lock_guard held(pools_lock());
        *pool = from_handle<CUmemoryPool>(host_pools().in_use->handle);
        return CUDA_SUCCESS;
    }
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceGetMemPool(pool, location->id);
}
CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
    if (location && is_host(*location)) {
        const std::lock_guard held(pools_lock());
        MemoryPool* wanted = find_pool(pool);
        if (!wanted || !wanted->on_host() || type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
        host_pools().in_use = wanted;
        return CUDA_SUCCESS;
    }
    const CUresult failure = check_location(location, type);
    return failure ? failure : shim::cuDeviceSetMemPool(location->id, pool);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
    const std::lock_guard held(pools_lock());
    MemoryPool* found = find_pool(pool);
    if (!found) return CUDA_ERROR_INVALID_VALUE;
    trim(*found, minBytesToKeep);
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
