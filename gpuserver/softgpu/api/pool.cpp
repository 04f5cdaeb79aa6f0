// Memory pools and stream-ordered allocation.
#include "device/pool.h"

#include <cstring>

#include "api/entry.h"
#include "api/free.h"
#include "device/capture.h"
#include "device/release.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

// Where a piece of an exportable pool lies: the content of a CUmemPoolPtrExportData.
struct PieceHandle {
    uint64_t magic, offset, size;
};
static_assert(sizeof(PieceHandle) <= sizeof(CUmemPoolPtrExportData));
constexpr uint64_t piece_magic = 0x67706670'69656365;

Device& device_of(const CUmemLocation* location) {
    check_value(location, "location is NULL");
    if (location->type != CU_MEM_LOCATION_TYPE_DEVICE) {
        throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "only devices have memory pools");
    }
    return require_device(location->id);
}

std::shared_ptr<GraphMemory> find_captured_allocation(const Capture& capture, CUdeviceptr address) {
    for (const auto& node : capture.graph->nodes) {
        const auto* made = std::get_if<AllocWork>(&node->work);
        if (made && made->memory->piece->begin == address) return made->memory;
    }
    return nullptr;
}

bool is_host(const CUmemLocation* location) {
    check_value(location, "location is NULL");
    return location->type == CU_MEM_LOCATION_TYPE_HOST || location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA;
}

std::shared_ptr<MemoryPool> make_host_pool(const CUmemPoolProps& properties) {
    check_value(properties.location.type == CU_MEM_LOCATION_TYPE_HOST || properties.location.id == 0,
                "there is no such NUMA node");
    if (properties.handleTypes) throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "memory of the host is not exported");
    Device& device = Context::current() ? Context::current()->device() : require_device(0);
    return MemoryPool::create_on_host(device, MemoryPool::Role::created, properties.location, properties.maxSize);
}

void allocate_async(CUdeviceptr* out, size_t bytes, const std::shared_ptr<MemoryPool>& pool,
                    const std::shared_ptr<Stream>& stream) {
    check_value(out && bytes, "dptr is NULL or no bytes are wanted");
    CUdeviceptr address = 0;
    const bool captured = capture_work(*stream, [&]() -> Work {
        if (pool->on_host()) throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "a graph allocates on devices only");
        AllocWork work;
        work.memory = std::make_shared<GraphMemory>(pool->device(), bytes, 0);
        work.parameters.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        work.parameters.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {pool->device().ordinal()}};
        work.parameters.bytesize = bytes;
        work.parameters.dptr = address = work.memory->piece->begin;
        return work;
    });
    *out = captured ? address : pool->allocate(bytes)->begin;
}

void free_async(CUdeviceptr address, const std::shared_ptr<Stream>& stream) {
    if (const auto capture = stream->capture()) {
        const std::lock_guard lock(graph_mutex());
        check_value(find_captured_allocation(*capture, address) != nullptr, "the capture did not allocate this memory");
        capture_work(*stream, [&] { return FreeWork{address}; });
        return;
    }
    const auto allocation = memory_map().find(address);
    check_value(allocation && allocation->begin == address && !allocation->internal,
                "not the address of an allocation");
    const bool of_host_pool = allocation->kind == MemoryKind::host_allocated && allocation->pool;
    const bool of_pool = allocation->kind == MemoryKind::pool || of_host_pool;
    check_value(of_pool || allocation->kind == MemoryKind::device || allocation->kind == MemoryKind::managed ||
                    (allocation->kind == MemoryKind::imported && allocation->pool),
                "the memory cannot be freed in a stream");
    const bool of_graph = of_pool && allocation->pool->role() == MemoryPool::Role::graph;
    if (!of_graph) check_value(!allocation->freeing.exchange(true), "the memory was freed already");
    if (of_pool && !of_graph) allocation->pool->begin_free(allocation);
    Operation operation;
    operation.even_failed = true;
    operation.run = [allocation] { release_allocation(allocation); };
    stream->enqueue(std::move(operation));
}

// The current pool of a stream's device.
std::shared_ptr<MemoryPool> pool_of(const Stream& stream) {
    return stream.context().device().current_pool();
}

}  // namespace

extern "C" CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        allocate_async(dptr, bytesize, pool_of(*stream), stream);
    });
}

extern "C" CUresult CUDAAPI cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                                    CUstream hStream) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        allocate_async(dptr, bytesize, require<MemoryPool>(pool), stream);
    });
}

extern "C" CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    return entry(__func__, [&] {
        const auto stream = require_stream(hStream);
        if (dptr) free_async(dptr, stream);
    });
}

extern "C" CUresult CUDAAPI cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
    return entry(__func__, [&] {
        check_value(pool && poolProps, "an argument is NULL");
        check_value(poolProps->allocType == CU_MEM_ALLOCATION_TYPE_PINNED, "only pinned allocations exist");
        if (is_host(&poolProps->location)) {
            *pool = handle_of(*make_host_pool(*poolProps));
            return CUDA_SUCCESS;
        }
        check_value(poolProps->location.type != CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT, "the NUMA node must be named");
        Device& device = device_of(&poolProps->location);
        if (poolProps->handleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) {
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        const bool exportable = poolProps->handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        *pool = handle_of(*MemoryPool::create(device, MemoryPool::Role::created, poolProps->maxSize, exportable));
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemPoolDestroy(CUmemoryPool pool) {
    return entry(__func__, [&] {
        const auto going = require<MemoryPool>(pool);
        check_value(going->role() == MemoryPool::Role::created, "the pool is the device's own");
        // Its memory goes with the last allocation from it.
        withdraw<MemoryPool>(pool);
        Device& device = going->device();
        if (MemoryPool::current_of_host() == going) MemoryPool::set_current_of_host(nullptr);
        if (device.current_pool() == going) device.set_current_pool(device.default_pool());
        going->trim(0);
    });
}

extern "C" CUresult CUDAAPI cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
    return entry(__func__, [&] { require<MemoryPool>(pool)->trim(minBytesToKeep); });
}

extern "C" CUresult CUDAAPI cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    return entry(__func__, [&] {
        const auto wanted = require<MemoryPool>(pool);
        check_value(value, "value is NULL");
        int flag = 0;
        uint64_t bytes = 0;
        switch (attr) {
            case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                std::memcpy(&flag, value, sizeof flag);
                (attr == CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES ? wanted->reuse_follow_events
                 : attr == CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC     ? wanted->reuse_opportunistic
                                                                         : wanted->reuse_internal_dependencies) = flag;
                return;
            case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                std::memcpy(&bytes, value, sizeof bytes);
                wanted->release_threshold = bytes;
                return;
            case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                std::memcpy(&bytes, value, sizeof bytes);
                check_value(bytes == 0, "a high-water mark can only be reset to 0");
                attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH ? wanted->reset_reserved_high() : wanted->reset_used_high();
                return;
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a pool that can be set");
        }
    });
}

extern "C" CUresult CUDAAPI cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
    return entry(__func__, [&] {
        const auto wanted = require<MemoryPool>(pool);
        check_value(value, "value is NULL");
        const auto put = [&](auto number) { std::memcpy(value, &number, sizeof number); };
        const auto usage = wanted->usage();
        switch (attr) {
            case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
                return put(wanted->reuse_follow_events.load());
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
                return put(wanted->reuse_opportunistic.load());
            case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                return put(wanted->reuse_internal_dependencies.load());
            case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                return put(wanted->release_threshold.load());
            case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
                return put(usage.reserved);
            case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
                return put(usage.reserved_high);
            case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
                return put(usage.used);
            case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                return put(usage.used_high);
            case CU_MEMPOOL_ATTR_ALLOCATION_TYPE:
                return put(int{CU_MEM_ALLOCATION_TYPE_PINNED});
            case CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES:
                return put(wanted->exportable() ? int{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}
                                                : int{CU_MEM_HANDLE_TYPE_NONE});
            case CU_MEMPOOL_ATTR_LOCATION_ID:
                return put(int{wanted->location().id});
            case CU_MEMPOOL_ATTR_LOCATION_TYPE:
                return put(int{wanted->location().type});
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of a pool");
        }
    });
}

extern "C" CUresult CUDAAPI cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
    return entry(__func__, [&] {
        const auto wanted = require<MemoryPool>(pool);
        check_value(map && count, "map is NULL or count is 0");
        for (size_t i = 0; i < count; ++i) {
            if (wanted->on_host() && is_host(&map[i].location)) {
                check_value(map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
                            "the host always has access to its pools");
                continue;
            }
            const Device& device = device_of(&map[i].location);
            check_value(
                wanted->on_host() || &device != &wanted->device() || map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
                "a device always has access to its own pools");
            wanted->set_access(device.ordinal(), map[i].flags);
        }
    });
}

extern "C" CUresult CUDAAPI cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool memPool,
                                               CUmemLocation* location) {
    return entry(__func__, [&] {
        const auto pool = require<MemoryPool>(memPool);
        check_value(flags, "flags is NULL");
        if (pool->on_host() && is_host(location)) {
            *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            return;
        }
        *flags = pool->access(device_of(location).ordinal());
    });
}

// --- sharing with other processes

extern "C" CUresult CUDAAPI cuMemPoolExportToShareableHandle(void* handle_out, CUmemoryPool pool,
                                                             CUmemAllocationHandleType handleType,
                                                             unsigned long long flags) {
    return entry(__func__, [&] {
        const auto wanted = require<MemoryPool>(pool);
        check_value(handle_out && flags == 0 && wanted->exportable(), "the pool was not created to be exported");
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
        const int descriptor = wanted->duplicate_descriptor();
        std::memcpy(handle_out, &descriptor, sizeof descriptor);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemPoolImportFromShareableHandle(CUmemoryPool* pool_out, void* handle,
                                                               CUmemAllocationHandleType handleType,
                                                               unsigned long long flags) {
    return entry(__func__, [&] {
        check_value(pool_out && flags == 0, "pool_out is NULL or flags are not 0");
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
        Device& device = Context::require_current().device();
        *pool_out = handle_of(*MemoryPool::import(device, static_cast<int>(reinterpret_cast<intptr_t>(handle))));
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuMemPoolExportPointer(CUmemPoolPtrExportData* shareData_out, CUdeviceptr ptr) {
    return entry(__func__, [&] {
        const auto allocation = memory_map().find(ptr);
        check_value(shareData_out && allocation && allocation->begin == ptr && allocation->pool,
                    "not the address of an allocation from a pool");
        const PieceHandle piece{piece_magic, allocation->pool->file_offset(*allocation), allocation->size};
        *shareData_out = {};
        std::memcpy(shareData_out, &piece, sizeof piece);
    });
}

extern "C" CUresult CUDAAPI cuMemPoolImportPointer(CUdeviceptr* ptr_out, CUmemoryPool pool,
                                                   CUmemPoolPtrExportData* shareData) {
    return entry(__func__, [&] {
        const auto wanted = require<MemoryPool>(pool);
        check_value(ptr_out && shareData && wanted->imported(), "the pool was not imported");
        PieceHandle piece{};
        std::memcpy(&piece, shareData, sizeof piece);
        check_value(piece.magic == piece_magic, "not what cuMemPoolExportPointer gave");
        *ptr_out = wanted->import_piece(piece.offset, piece.size)->begin;
    });
}

// --- by location

extern "C" CUresult CUDAAPI cuMemGetDefaultMemPool(CUmemoryPool* pool_out, CUmemLocation* location,
                                                   CUmemAllocationType type) {
    return entry(__func__, [&] {
        check_value(pool_out && type == CU_MEM_ALLOCATION_TYPE_PINNED, "only pinned allocations exist");
        *pool_out = handle_of(is_host(location) ? *MemoryPool::default_of_host() : *device_of(location).default_pool());
    });
}

extern "C" CUresult CUDAAPI cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
    return entry(__func__, [&] {
        check_value(pool && type == CU_MEM_ALLOCATION_TYPE_PINNED, "only pinned allocations exist");
        *pool = handle_of(is_host(location) ? *MemoryPool::current_of_host() : *device_of(location).current_pool());
    });
}

extern "C" CUresult CUDAAPI cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
    return entry(__func__, [&] {
        auto wanted = require<MemoryPool>(pool);
        if (is_host(location)) {
            check_value(type == CU_MEM_ALLOCATION_TYPE_PINNED && wanted->on_host(), "the pool is a device's");
            return MemoryPool::set_current_of_host(std::move(wanted));
        }
        Device& device = device_of(location);
        check_value(!wanted->on_host(), "the pool is the host's");
        check_value(type == CU_MEM_ALLOCATION_TYPE_PINNED && &wanted->device() == &device && !wanted->imported(),
                    "the pool is of another device");
        device.set_current_pool(std::move(wanted));
    });
}

// --- what graphs hold

extern "C" CUresult CUDAAPI cuDeviceGraphMemTrim(CUdevice device) {
    return entry(__func__, [&] { require_device(device).graph_pool()->trim(0); });
}

extern "C" CUresult CUDAAPI cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void* value) {
    return entry(__func__, [&] {
        const auto usage = require_device(device).graph_pool()->usage();
        check_value(value, "value is NULL");
        uint64_t bytes = 0;
        switch (attr) {
            case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
                bytes = usage.used;
                break;
            case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
                bytes = usage.used_high;
                break;
            case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
                bytes = usage.reserved;
                break;
            case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
                bytes = usage.reserved_high;
                break;
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "no attribute of graph memory");
        }
        std::memcpy(value, &bytes, sizeof bytes);
    });
}

extern "C" CUresult CUDAAPI cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void* value) {
    return entry(__func__, [&] {
        const auto pool = require_device(device).graph_pool();
        check_value(value, "value is NULL");
        uint64_t bytes = 0;
        std::memcpy(&bytes, value, sizeof bytes);
        check_value(
            bytes == 0 && (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH),
            "only high-water marks can be reset, to 0");
        attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH ? pool->reset_used_high() : pool->reset_reserved_high();
    });
}
