// cuIpcGetMemHandle, cuIpcOpenMemHandle, cuIpcCloseMemHandle: memory that the processes of a lease share. The workers
// hand it to each other; a handle says which worker to ask, and for what.
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "call.h"
#include "device_memory.h"
#include "pools.h"
#include "shared_names.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

constexpr uint32_t magic = 0x6d65'6d66;
using Key = SharingKey;

struct Name {
    uint32_t magic = 0, process = 0;
    Key key{};
    uint64_t mapped = 0, offset = 0, size = 0;  // bytes
    uint32_t place = 0, reserved = 0;           // of its GPU in the lease
};
static_assert(sizeof(Name) <= sizeof(CUipcMemHandle));

struct Opened {
    Name name;
    uint64_t mapping = 0;
    int count = 0;
};

std::mutex lock;
std::set<Key>& exported() {
    static auto* all = new std::set<Key>;
    return *all;
}
std::map<CUdeviceptr, Opened>& opened() {
    static auto* all = new std::map<CUdeviceptr, Opened>;
    return *all;
}

}  // namespace

namespace shim {

CUresult cuIpcGetMemHandle(CUipcMemHandle* pHandle, CUdeviceptr dptr) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!pHandle || !device_memory().find(dptr, base, stretch)) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t granularity = client().device(stretch.device)->server->granularity;
    const bool carved = stretch.origin == Stretch::Origin::carved;
    if (!carved && stretch.origin != Stretch::Origin::allocated) return CUDA_ERROR_INVALID_VALUE;
    const uint64_t mapping = carved ? base / granularity * granularity : base;
    Call call(Op::share_memory);
    call.go_to(*client().device(stretch.device)->server);
    call.value(mapping);
    call.ask();
    if (call.result()) return call.result();
    Name name{.magic = magic, .offset = base - mapping, .size = stretch.size};
    name.process = static_cast<uint32_t>(call.results().take<uint64_t>());
    name.key = call.results().take<Key>();
    name.mapped = carved ? granularity : (stretch.size + granularity - 1) / granularity * granularity;
    if (stretch.arena) device_memory().renew_rights(*stretch.arena, mapping);
    name.place = static_cast<uint32_t>(client().device(stretch.device)->place);
    *pHandle = {};
    std::memcpy(pHandle, &name, sizeof name);
    const std::lock_guard held(lock);
    exported().insert(name.key);
    return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pdptr, CUipcMemHandle handle, unsigned Flags) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    Name name;
    std::memcpy(static_cast<void*>(&name), &handle, sizeof name);
    const CUdevice device = client().ordinal_at(name.place);
    if (!pdptr || (Flags & ~unsigned{CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS}) || name.magic != magic ||
        !client().device(device) || name.offset > name.mapped || name.size > name.mapped - name.offset) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const std::lock_guard held(lock);
    if (exported().contains(name.key)) return CUDA_ERROR_INVALID_CONTEXT;  // the memory is of this very process
    for (auto& [address, known] : opened()) {
        if (known.name.key != name.key || known.name.offset != name.offset) continue;
        ++known.count;
        *pdptr = address;
        return CUDA_SUCCESS;
    }
    const Server& server = *client().device(device)->server;
    const CUdeviceptr mapping = device_memory().reserve(server, name.mapped, server.granularity, 0);
    if (!mapping) return CUDA_ERROR_OUT_OF_MEMORY;
    Call call(Op::open_shared_memory);
    call.go_to(*client().device(device)->server);
    call.value<uint64_t>(name.process);
    call.value(name.key);
    call.value<uint64_t>(mapping);
    call.value<uint64_t>(name.mapped);
    call.device(device);
    call.ask();
    if (call.result()) {
        device_memory().unreserve(mapping, name.mapped);
        return call.result();
    }
    *pdptr = mapping + name.offset;
    opened()[*pdptr] = {name, mapping, 1};
    device_memory().add_foreign(*pdptr, name.size, context, Stretch::Origin::imported, device);
    return CUDA_SUCCESS;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    const std::lock_guard held(lock);
    const auto found = opened().find(dptr);
    if (found == opened().end()) return CUDA_ERROR_INVALID_VALUE;
    if (--found->second.count) return CUDA_SUCCESS;
    Server& server = *client().device(client().ordinal_at(found->second.name.place))->server;
    Call call(Op::close_shared_memory);
    call.go_to(server);
    call.value(found->second.mapping);
    const CUresult result = call.post_anywhere();
    device_memory().remove_foreign(server, dptr);
    device_memory().unreserve(found->second.mapping, found->second.name.mapped);
    opened().erase(found);
    return result;
}

// A piece of a pool is named as any other memory is.
CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* shareData_out, CUdeviceptr ptr) {
    CUdeviceptr base = 0;
    Stretch stretch;
    const bool known = device_memory().find(ptr, base, stretch) && base == ptr;
    if (!shareData_out || !known || !stretch.arena || !stretch.arena->of_pool) return CUDA_ERROR_INVALID_VALUE;
    CUipcMemHandle handle;
    static_assert(sizeof handle == sizeof *shareData_out);
    if (const CUresult failure = shim::cuIpcGetMemHandle(&handle, ptr)) return failure;
    std::memcpy(shareData_out, &handle, sizeof handle);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolImportPointer(CUdeviceptr* ptr_out, CUmemoryPool pool, CUmemPoolPtrExportData* shareData) {
    if (!ptr_out || !shareData || !is_imported_pool(pool)) return CUDA_ERROR_INVALID_VALUE;
    CUipcMemHandle handle;
    std::memcpy(&handle, shareData, sizeof handle);
    return shim::cuIpcOpenMemHandle_v2(ptr_out, handle, 0);
}

}  // namespace shim
}  // namespace gpuferry
