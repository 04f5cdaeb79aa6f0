// Sharing memory and events with other processes of this machine (cuIpc*).
//
// A handle names a process and one of its file descriptors, which the other process opens through /proc: it works
// between processes of one user in one process namespace, while the exporting process lives.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

#include "api/entry.h"
#include "api/free.h"
#include "device/context.h"
#include "device/event.h"
#include "device/release.h"
#include "device/shared_file.h"
#include "device/sizes.h"

using namespace softgpu;

namespace {

constexpr uint32_t memory_magic = 0x6d656d31, event_magic = 0x65766e31;

struct MemoryName {
    uint32_t magic;
    int32_t process, descriptor;
    uint32_t device;  // first bytes of its UUID
    uint64_t inode;   // of the memory file: a later process of the same number has another
    uint64_t offset, size;
};
static_assert(sizeof(MemoryName) <= sizeof(CUipcMemHandle));

struct EventName {
    uint32_t magic;
    int32_t process, descriptor;
    uint64_t key;
};
static_assert(sizeof(EventName) <= sizeof(CUipcEventHandle));

uint32_t device_mark(const Device& device) {
    uint32_t mark = 0;
    std::memcpy(&mark, device.config().uuid.data(), sizeof mark);
    return mark;
}

Device& device_marked(uint32_t mark) {
    for (int i = 0; i < device_count(); ++i) {
        if (device_mark(require_device(i)) == mark) return require_device(i);
    }
    throw DriverError(CUDA_ERROR_INVALID_DEVICE, "the memory is of a device that this process does not see");
}

uint64_t inode_of(int descriptor) {
    struct stat about{};
    return fstat(descriptor, &about) == 0 ? about.st_ino : 0;
}

// Memory opened here: opening it again gives the same address and counts.
struct Opened {
    AllocationPtr allocation;
    int count = 0;
};
using OpenedKey = std::tuple<uint64_t, uint64_t, uint64_t>;  // context id, inode, offset
struct OpenedMemory {
    std::mutex mutex;
    std::map<OpenedKey, Opened> all;
};

OpenedMemory& opened_memory() {
    static auto& opened = *new OpenedMemory;
    return opened;
}

AllocationPtr map_foreign(const MemoryName& name, Context& context) {
    const int descriptor = open_file_of(name.process, name.descriptor);
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t first = name.offset / page * page;
    struct stat about{};
    const bool right = fstat(descriptor, &about) == 0 && about.st_ino == name.inode && name.size != 0 &&
                       fits(name.offset, name.size, static_cast<uint64_t>(about.st_size));
    const uint64_t length = right ? round_up(name.offset + name.size - first, page) : 0;
    void* place = right
                      ? mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, static_cast<off_t>(first))
                      : MAP_FAILED;
    close(descriptor);
    check_value(right, "the memory behind the handle is gone");
    if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_MAP_FAILED, std::strerror(errno));
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = reinterpret_cast<uint64_t>(place) + (name.offset - first);
    allocation->size = name.size;
    allocation->kind = MemoryKind::imported;
    allocation->device = &device_marked(name.device);
    allocation->context_id = context.id();
    allocation->context = handle_of(context);
    allocation->mapped_length = length;
    allocation->buffer_id = new_buffer_id();
    memory_map().insert(allocation);
    return allocation;
}

}  // namespace

extern "C" CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle* pHandle, CUdeviceptr dptr) {
    return entry(__func__, [&] {
        Context::require_current();
        check_value(pHandle, "pHandle is NULL");
        const auto allocation = memory_map().find(dptr);
        check_value(allocation && allocation->kind == MemoryKind::device, "not memory from cuMemAlloc");
        const DeviceMemory& memory = allocation->device->memory();
        const MemoryName name{memory_magic,
                              getpid(),
                              memory.descriptor(),
                              device_mark(*allocation->device),
                              inode_of(memory.descriptor()),
                              allocation->begin - memory.base(),
                              allocation->size};
        *pHandle = {};
        std::memcpy(pHandle, &name, sizeof name);
    });
}

extern "C" CUresult CUDAAPI cuIpcOpenMemHandle_v2(CUdeviceptr* pdptr, CUipcMemHandle handle, unsigned Flags) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        MemoryName name{};
        std::memcpy(&name, &handle, sizeof name);
        check_value(pdptr && (Flags & ~unsigned{CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS}) == 0, "unknown flags");
        check_value(name.magic == memory_magic, "not a handle of memory");
        if (name.process == getpid()) {
            throw DriverError(CUDA_ERROR_INVALID_CONTEXT, "the memory is of this very process");
        }
        OpenedMemory& opened = opened_memory();
        const std::lock_guard lock(opened.mutex);
        Opened& entry = opened.all[{context.id(), name.inode, name.offset}];
        // It may have gone with its context.
        if (entry.count == 0 || memory_map().find(entry.allocation->begin) != entry.allocation) {
            try {
                entry = {map_foreign(name, context), 0};
            } catch (...) {
                opened.all.erase({context.id(), name.inode, name.offset});
                throw;
            }
        }
        ++entry.count;
        *pdptr = entry.allocation->begin;
    });
}

extern "C" CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr dptr) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        Context::require_current();
        const auto allocation = memory_map().find(dptr);
        check_value(allocation && allocation->kind == MemoryKind::imported && allocation->begin == dptr,
                    "not what cuIpcOpenMemHandle gave");
        await_device(nullptr);
        OpenedMemory& opened = opened_memory();
        const std::lock_guard lock(opened.mutex);
        for (auto it = opened.all.begin(); it != opened.all.end(); ++it) {
            if (it->second.allocation != allocation) continue;
            if (--it->second.count > 0) return;
            opened.all.erase(it);
            break;
        }
        release_allocation(allocation);
    });
}

extern "C" CUresult CUDAAPI cuIpcGetEventHandle(CUipcEventHandle* pHandle, CUevent event) {
    return entry(__func__, [&] {
        const auto wanted = require<Event>(event);
        check_value(pHandle, "pHandle is NULL");
        const auto shared = wanted->share();
        if (!shared) return CUDA_ERROR_INVALID_VALUE;
        const EventName name{event_magic, getpid(), shared->descriptor(), shared->key()};
        *pHandle = {};
        std::memcpy(pHandle, &name, sizeof name);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuIpcOpenEventHandle(CUevent* phEvent, CUipcEventHandle handle) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        EventName name{};
        std::memcpy(&name, &handle, sizeof name);
        check_value(phEvent && name.magic == event_magic, "not a handle of an event");
        auto shared = SharedEvent::open(name.process, name.descriptor, name.key);
        *phEvent = publish(std::make_shared<Event>(context.shared_from_this(), std::move(shared)));
        context.adopt(to_value(*phEvent));
    });
}
