// cuMemAddressReserve, cuMemCreate, cuMemMap and their kin. A session's window is one reservation of the worker's, so
// the client hands out its addresses, those of the current context's server; physical memory counts against the slice
// while a handle or a mapping holds it.
#include <cstring>
#include <map>
#include <memory>

#include "call.h"
#include "device_memory.h"
#include "shared_names.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

// One cuMemCreate: alive while handles or mappings are left.
struct Physical {
    CUmemAllocationProp prop{};
    uint64_t size = 0;
    Handle handle = 0;
    bool imported = false;          // it counts where it was made
    int handles = 1, mappings = 0;  // `handle` is stale while there are no handles
};

std::mutex lock;
struct Placed {
    uint64_t size = 0;
    Physical* physical = nullptr;
};
std::map<uint64_t, Placed>& placed() {
    static auto* all = new std::map<uint64_t, Placed>;
    return *all;
}

// The caller holds the lock.
void drop_if_unused(Physical* physical) {
    if (physical->handles || physical->mappings) return;
    if (!physical->imported) device_memory().discharge(physical->prop.location.id, physical->size);
    delete physical;
}

Physical* find_physical(CUmemGenericAllocationHandle handle) {
    return handles_table().find<Physical>(Kind::allocation, handle);
}

}  // namespace

namespace shim {

CUresult cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
    const uint64_t granularity = current_server().granularity;
    if (!ptr || !size || size % granularity || flags) return CUDA_ERROR_INVALID_VALUE;
    if (alignment & (alignment - 1)) return CUDA_ERROR_INVALID_VALUE;
    *ptr = device_memory().reserve(current_server(), size, std::max<uint64_t>(alignment, granularity), addr);
    return *ptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size) {
    return device_memory().unreserve(ptr, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size, const CUmemAllocationProp* prop,
                     unsigned long long flags) {
    if (!handle || !prop || !size || flags) return CUDA_ERROR_INVALID_VALUE;
    if (prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
    const unsigned wanted = prop->requestedHandleTypes;
    if (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        (wanted & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR})) {
        return CUDA_ERROR_NOT_SUPPORTED;  // host memory, and handles of other systems
    }
    const Device* device = client().device(prop->location.id);
    if (!device) return CUDA_ERROR_INVALID_DEVICE;
    if (size % device->server->granularity) return CUDA_ERROR_INVALID_VALUE;
    if (!device_memory().charge(prop->location.id, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    auto* physical = new Physical{*prop, size};
    Call call(Op::create_physical);
    call.go_to(*device->server);
    call.create(Kind::allocation, handle, physical);
    physical->handle = *handle;
    call.value<uint64_t>(size);
    call.device(prop->location.id);
    call.value<uint64_t>(wanted != 0);
    // What the memory is for: tiles of sparse arrays, decompression, compression by the GPU.
    call.value<uint64_t>(prop->allocFlags.usage);
    call.value<uint64_t>(prop->allocFlags.compressionType);
    const CUresult result = call.post_anywhere();
    if (result) {
        device_memory().discharge(prop->location.id, size);
        delete physical;
    }
    return result;
}

CUresult cuMemExportToShareableHandle(void* shareableHandle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType handleType, unsigned long long flags) {
    const std::lock_guard held(lock);
    const Physical* physical = find_physical(handle);
    if (!shareableHandle || !physical || flags || !physical->prop.requestedHandleTypes) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    Call call(Op::export_physical);
    call.handle(Kind::allocation, handle);
    call.ask();
    if (call.result()) return call.result();
    SharedName name{.size = physical->size, .place = client().device(physical->prop.location.id)->place};
    name.process = static_cast<uint32_t>(call.results().take<uint64_t>());
    name.key = call.results().take<SharingKey>();
    const int descriptor = write_name(name);
    if (descriptor < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    std::memcpy(shareableHandle, &descriptor, sizeof descriptor);
    return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* osHandle,
                                        CUmemAllocationHandleType shHandleType) {
    if (!handle) return CUDA_ERROR_INVALID_VALUE;
    if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    SharedName name;
    CUdevice device = 0;
    const auto descriptor = static_cast<int>(reinterpret_cast<intptr_t>(osHandle));
    if (!read_name(descriptor, SharedName::What::memory, name, device)) return CUDA_ERROR_INVALID_VALUE;
    auto physical = std::make_unique<Physical>();
    physical->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    physical->prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    physical->prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    physical->prop.location.id = device;
    physical->size = name.size;
    physical->imported = true;
    Call call(Op::import_physical);
    call.go_to(*client().device(device)->server);
    call.create(Kind::allocation, handle, physical.get());
    physical->handle = *handle;
    call.value<uint64_t>(name.process);
    call.value(name.key);
    call.device(device);
    call.ask();
    if (call.result()) {
        handles_table().forget(*handle);
        return call.result();
    }
    physical.release();  // the table's
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    const std::lock_guard held(lock);
    Physical* physical = find_physical(handle);
    if (!physical) return CUDA_ERROR_INVALID_VALUE;
    if (--physical->handles > 0) return CUDA_SUCCESS;
    Call call(Op::release_physical);
    call.handle(Kind::allocation, handle);
    const CUresult result = call.post_anywhere();
    handles_table().forget(handle);
    drop_if_unused(physical);
    return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
    const std::lock_guard held(lock);
    if (!handle) return CUDA_ERROR_INVALID_VALUE;
    const auto where = reinterpret_cast<uint64_t>(addr);
    auto at = placed().upper_bound(where);
    if (at == placed().begin() || where - std::prev(at)->first >= std::prev(at)->second.size) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    Physical* physical = std::prev(at)->second.physical;
    if (!physical->handles) {  // only mappings are left: the memory gets a handle anew
        Call call(Op::retain_physical);
        call.go_to(*client().device(physical->prop.location.id)->server);
        call.create(Kind::allocation, &physical->handle, physical);
        call.value<uint64_t>(std::prev(at)->first);
        if (const CUresult failure = call.post_anywhere()) return failure;
    }
    ++physical->handles;
    *handle = physical->handle;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop, CUmemGenericAllocationHandle handle) {
    const std::lock_guard held(lock);
    const Physical* physical = find_physical(handle);
    if (!prop || !physical) return CUDA_ERROR_INVALID_VALUE;
    *prop = physical->prop;
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    const std::lock_guard held(lock);
    Physical* physical = find_physical(handle);
    if (!physical || flags || !size) return CUDA_ERROR_INVALID_VALUE;
    const Server& server = *client().device(physical->prop.location.id)->server;
    const uint64_t granularity = server.granularity;
    if (size % granularity || ptr % granularity || offset % granularity) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (size > physical->size || offset > physical->size - size) return CUDA_ERROR_INVALID_VALUE;
    if (!device_memory().reserved(ptr, size)) return CUDA_ERROR_INVALID_VALUE;
    // Addresses that were reserved for GPUs of one server mean nothing to another.
    if (!DeviceMemory::is_of_window(server, ptr)) return CUDA_ERROR_NOT_SUPPORTED;
    const auto next = placed().lower_bound(ptr);
    if (next != placed().end() && next->first < ptr + size) return CUDA_ERROR_INVALID_VALUE;
    if (next != placed().begin() && std::prev(next)->first + std::prev(next)->second.size > ptr) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    Call call(Op::map_physical);
    call.value<uint64_t>(ptr);
    call.value<uint64_t>(size);
    call.value<uint64_t>(offset);
    call.handle(Kind::allocation, handle);
    if (const CUresult failure = call.post_anywhere()) return failure;
    ++physical->mappings;
    placed()[ptr] = {size, physical};
    device_memory().add_foreign(ptr, size, nullptr, Stretch::Origin::mapped, physical->prop.location.id);
    return CUDA_SUCCESS;
}

// All mappings inside the range, each as a whole.
CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
    const std::lock_guard held(lock);
    auto at = placed().lower_bound(ptr);
    uint64_t covered = ptr;
    for (; at != placed().end() && at->first == covered && covered + at->second.size <= ptr + size; ++at) {
        covered += at->second.size;
    }
    if (covered != ptr + size || !size) return CUDA_ERROR_INVALID_VALUE;
    for (at = placed().lower_bound(ptr); at != placed().end() && at->first < ptr + size; at = placed().erase(at)) {
        Server& server = *client().device(at->second.physical->prop.location.id)->server;
        Call call(Op::unmap_physical);
        call.go_to(server);
        call.value<uint64_t>(at->first);
        call.post_anywhere();
        device_memory().remove_foreign(server, at->first);
        --at->second.physical->mappings;
        drop_if_unused(at->second.physical);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc, size_t count) {
    {
        const std::lock_guard held(lock);
        uint64_t covered = ptr;
        for (auto at = placed().lower_bound(ptr); at != placed().end() && at->first == covered; ++at) {
            covered += at->second.size;
        }
        if (!desc || !count || !size || covered < ptr + size) return CUDA_ERROR_INVALID_VALUE;
    }
    for (size_t i = 0; i < count; ++i) {
        if (desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE && !client().device(desc[i].location.id)) {
            return CUDA_ERROR_INVALID_DEVICE;
        }
    }
    if (const CUresult failure = forward_cuMemSetAccess(ptr, size, desc, count)) return failure;
    for (size_t i = 0; i < count; ++i) {
        if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) continue;
        device_memory().set_rights(ptr, size, desc[i].location.id, desc[i].flags);
    }
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
