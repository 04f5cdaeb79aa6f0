#include "device_memory.h"

#include "call.h"
#include "capture.h"
#include "host_functions.h"
#include "host_memory.h"
#include "peers.h"
#include "pools.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

constexpr uint64_t carving = 512;     // bytes
constexpr uint64_t scarce_part = 16;  // of the budget

constexpr uint64_t round_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

// Adds a free stretch to a map of them, joining it with its neighbours.
void add_free(std::map<uint64_t, uint64_t>& free, uint64_t start, uint64_t size) {
    auto next = free.lower_bound(start);
    if (next != free.begin()) {
        const auto before = std::prev(next);
        if (before->first + before->second == start) {
            start = before->first;
            size += before->second;
            free.erase(before);
        }
    }
    if (next != free.end() && start + size == next->first) {
        size += next->second;
        free.erase(next);
    }
    free[start] = size;
}

}  // namespace

namespace {

// What another GPU may do with a mapping.
CUresult post_rights(uint64_t address, CUdevice device, CUmemAccess_flags flags) {
    Call call(Op::set_rights);
    call.value<uint64_t>(address);
    call.device(device);
    call.value<uint64_t>(flags);
    return call.post_anywhere();
}

}  // namespace

// Until a graph allocates it again, nothing is there; the graph and the address stay.
CUresult free_memory_of_graph(CUdeviceptr address, CUstream stream, bool in_stream) {
    Call call(Op::free_of_graph);
    call.value<uint64_t>(address);
    call.value<uint64_t>(in_stream);
    call.handle(Kind::stream, stream);
    call.ask();
    return call.result();
}

DeviceMemory& device_memory() {
    static auto* only = new DeviceMemory;
    return *only;
}

void DeviceMemory::open(const Snapshot& snapshot) {
    const std::lock_guard held(lock_);
    for (const auto& server : client().servers()) {
        Space& space = spaces_.emplace_back();
        space.server = server.get();
        space.room[server->window_base] = server->window_size;
        space.cursor = server->window_base;
    }
    for (const Device& device : snapshot.devices) {
        account_.set_budget(device.place, device.total, device.limit);
        arenas_.emplace_back();
    }
}

// Next fit: the first room behind the cursor. 0 when the window is full.
uint64_t DeviceMemory::Space::find_room(uint64_t size) {
    for (int turn = 0; turn < 2; ++turn) {
        for (auto at = room.lower_bound(turn ? 0 : cursor); at != room.end(); ++at) {
            if (at->second < size) continue;
            const auto [start, length] = *at;
            room.erase(at);
            if (length > size) room[start + size] = length - size;
            cursor = start + size;
            return start;
        }
    }
    return 0;
}

DeviceMemory::Space& DeviceMemory::space_of(CUdevice device) {
    return spaces_[client().device(device)->server->number];
}

DeviceMemory::Space& DeviceMemory::space_around(uint64_t address) {
    for (Space& space : spaces_) {
        if (is_of_window(*space.server, address)) return space;
    }
    return spaces_.front();
}

DeviceMemory::Space* DeviceMemory::find_space(uint64_t address, Stretches::iterator& at) {
    const size_t first = current_server().number;
    for (size_t i = 0; i < spaces_.size(); ++i) {
        Space& space = spaces_[(first + i) % spaces_.size()];
        at = space.stretches.upper_bound(address);
        if (at == space.stretches.begin()) continue;
        --at;
        if (address - at->first < at->second.size) return &space;
    }
    return nullptr;
}

void DeviceMemory::give_room_back(uint64_t address, uint64_t size) {
    add_free(space_around(address).room, address, size);
}

CUresult DeviceMemory::map(Arena& arena, CUdevice device, uint64_t size, uint64_t& address) {
    const size_t index = client().device(device)->place;
    if (!account_.take(index, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    address = space_of(device).find_room(size);
    if (!address) {
        account_.give_back(index, size);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    Call call(Op::map_memory);
    call.value<uint64_t>(address);
    call.value<uint64_t>(size);
    call.device(device);
    call.value<uint64_t>(arena.of_pool);
    // The last of the budget is asked for: contexts and code take memory that the client does not count.
    const bool scarce = account_.left(index) < account_.total(index) / scarce_part;
    CUresult result = CUDA_SUCCESS;
    if (scarce) {
        call.ask();
        result = call.result();
    } else {
        result = call.post_anywhere();
    }
    if (result) {
        give_room_back(address, size);
        account_.give_back(index, size);
        return result;
    }
    arena.mappings[address] = size;
    arena.mapped += size;
    for (const auto& [peer, flags] : arena.rights) post_rights(address, peer, flags);
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::unmap(Arena& arena, CUdevice device, uint64_t address, uint64_t size) {
    arena.mappings.erase(address);
    arena.mapped -= size;
    Call call(Op::unmap_memory);
    call.go_to(*client().device(device)->server);
    call.value<uint64_t>(address);
    const CUresult result = call.post_anywhere();
    give_back(device, size);
    give_room_back(address, size);
    return result;
}

// Another process of the lease may take what this one gives back, over a connection of its own that this one's posts do
// not wait for: the server must have it first. A process that is alone waits for nothing, except while the GPU waits
// for a host function of this process: the server would wait for the freed memory when it is asked for again, and could
// not hear meanwhile that the function has returned.
void DeviceMemory::give_back(CUdevice device, uint64_t bytes) {
    if (account_.is_shared() || host_functions_pending()) {
        Call call(Op::fence_memory);
        call.device(device);
        call.ask();
    }
    account_.give_back(client().device(device)->place, bytes);
}

bool DeviceMemory::carve(Arena& arena, uint64_t size, uint64_t& address) {
    for (auto& [base, granule] : arena.granules) {
        for (auto at = granule.free.begin(); at != granule.free.end(); ++at) {
            if (at->second < size) continue;
            const auto [offset, length] = *at;
            granule.free.erase(at);
            if (length > size) granule.free[offset + size] = length - size;
            granule.used += size;
            address = base + offset;
            return true;
        }
    }
    return false;
}

// Asks the worker for a fence and waits for it: all resting blocks are free behind it.
CUresult DeviceMemory::wait_for_resting(Arena& arena, CUdevice device, std::unique_lock<std::mutex>& held) {
    std::vector<std::tuple<uint64_t, uint64_t, uint64_t>> rested;
    for (auto& [base, granule] : arena.granules) {
        for (const auto& [offset, size] : granule.resting) rested.emplace_back(base, offset, size);
    }
    Call call(Op::fence_memory);
    call.device(device);
    held.unlock();
    call.ask();
    held.lock();
    if (call.result()) return call.result();
    auto& granules = arena.granules;
    for (const auto& [base, offset, size] : rested) {
        const auto granule = granules.find(base);
        if (granule == granules.end()) continue;
        const auto block = granule->second.resting.find(offset);
        if (block == granule->second.resting.end() || block->second != size) continue;
        granule->second.resting.erase(block);
        add_free(granule->second.free, offset, size);
    }
    arena.resting = false;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::allocate(Context* context, uint64_t size, CUdeviceptr& address, CUdevice device, Arena* pool) {
    std::unique_lock held(lock_);
    Arena& arena = pool ? *pool : arenas_[static_cast<size_t>(device)];
    Space& space = space_of(device);
    const uint64_t granularity = space.server->granularity;
    Stretch stretch{size, device, context, Stretch::Origin::allocated, ++last_id_, &arena};
    uint64_t place = 0;
    if (size > granularity / 2) {
        const uint64_t bytes = round_up(size, granularity);
        if (bytes < size) return CUDA_ERROR_OUT_OF_MEMORY;
        if (const CUresult failure = map(arena, device, bytes, place)) return failure;
    } else {
        const uint64_t bytes = round_up(size, carving);
        stretch.origin = Stretch::Origin::carved;
        bool found = carve(arena, bytes, place);
        if (!found) {
            uint64_t base = 0;
            CUresult result = map(arena, device, granularity, base);
            if (result == CUDA_ERROR_OUT_OF_MEMORY && arena.resting) {
                result = wait_for_resting(arena, device, held);
                if (!result && !carve(arena, bytes, place)) result = CUDA_ERROR_OUT_OF_MEMORY;
            } else if (!result) {
                Granule& granule = arena.granules[base];
                granule.base = base;
                granule.free[0] = granularity;
                carve(arena, bytes, place);
            }
            if (result) return result;
        }
    }
    space.stretches[place] = stretch;
    address = place;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::free_carved(uint64_t address, const Stretch& stretch) {
    Arena& arena = *stretch.arena;
    const uint64_t granularity = client().device(stretch.device)->server->granularity;
    const uint64_t base = address / granularity * granularity;
    const auto found = arena.granules.find(base);
    if (found == arena.granules.end()) return CUDA_ERROR_INVALID_VALUE;
    Granule& granule = found->second;
    const uint64_t bytes = round_up(stretch.size, carving);
    granule.used -= bytes;
    if (granule.used == 0) {  // the worker's reaper waits for the GPU before it unmaps
        arena.granules.erase(found);
        return unmap(arena, stretch.device, base, granularity);
    }
    granule.resting[address - base] = bytes;
    arena.resting = true;
    return CUDA_SUCCESS;
}

CUresult DeviceMemory::free(CUdeviceptr address) {
    std::unique_lock held(lock_);
    Stretches::iterator at;
    Space* space = find_space(address, at);
    return space && at->first == address ? free(*space, at, held) : CUDA_ERROR_INVALID_VALUE;
}

CUresult DeviceMemory::free(Space& space, Stretches::iterator at, std::unique_lock<std::mutex>& held) {
    const auto [address, stretch] = *at;
    switch (stretch.origin) {
        case Stretch::Origin::allocated:
            space.stretches.erase(at);
            return unmap(*stretch.arena, stretch.device, address, round_up(stretch.size, space.server->granularity));
        case Stretch::Origin::carved:
            space.stretches.erase(at);
            return free_carved(address, stretch);
        case Stretch::Origin::managed: {
            space.stretches.erase(at);
            held.unlock();
            const CUresult result = shim::cuCtxSynchronize();
            const uint64_t bytes = round_up(stretch.size, 4096);
            end_twin(address);
            drop_host_pages(reinterpret_cast<void*>(address), bytes);
            discharge(stretch.device, bytes);
            return result;
        }
        case Stretch::Origin::of_graph:
            held.unlock();
            return free_memory_of_graph(address);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

uint64_t DeviceMemory::mapped(const Arena& arena) {
    const std::lock_guard held(lock_);
    return arena.mapped;
}

CUresult DeviceMemory::set_rights(Arena& pool, CUdevice device, CUmemAccess_flags flags) {
    const std::lock_guard held(lock_);
    CUmemAccess_flags& known = pool.rights[device];
    if (known == flags) return CUDA_SUCCESS;
    known = flags;
    for (const auto& [address, size] : pool.mappings) {
        if (const CUresult failure = post_rights(address, device, flags)) return failure;
    }
    return CUDA_SUCCESS;
}

void DeviceMemory::renew_rights(const Arena& pool, CUdeviceptr mapping) {
    const std::lock_guard held(lock_);
    for (const auto& [device, flags] : pool.rights) post_rights(mapping, device, flags);
}

CUmemAccess_flags DeviceMemory::rights(const Arena& pool, CUdevice device) {
    const std::lock_guard held(lock_);
    const auto found = pool.rights.find(device);
    return found == pool.rights.end() ? CU_MEM_ACCESS_FLAGS_PROT_NONE : found->second;
}

void DeviceMemory::set_rights(CUdeviceptr address, uint64_t size, CUdevice device, CUmemAccess_flags flags) {
    const std::lock_guard held(lock_);
    Stretches& stretches = space_around(address).stretches;
    for (auto at = stretches.lower_bound(address); at != stretches.end() && at->first < address + size; ++at) {
        at->second.rights[device] = flags;
    }
}

CUmemAccess_flags DeviceMemory::rights(const Stretch& stretch, const Context* context) {
    const CUdevice device = context ? context->device : stretch.device;
    if (stretch.origin == Stretch::Origin::mapped) {
        const auto found = stretch.rights.find(device);
        return found == stretch.rights.end() ? CU_MEM_ACCESS_FLAGS_PROT_NONE : found->second;
    }
    if (stretch.arena && stretch.arena->of_pool && device != stretch.device) return rights(*stretch.arena, device);
    return reaches(context, stretch.device) ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

CUdeviceptr DeviceMemory::reserve(const Server& server, uint64_t size, uint64_t alignment, CUdeviceptr wanted) {
    const std::lock_guard held(lock_);
    auto& room = spaces_[server.number].room;
    uint64_t address = 0;
    if (wanted && wanted % alignment == 0) {  // a wish: granted where it is free
        auto at = room.upper_bound(wanted);
        if (at != room.begin() && size <= std::prev(at)->second &&
            wanted - std::prev(at)->first <= std::prev(at)->second - size) {
            const auto [start, length] = *--at;
            room.erase(at);
            if (wanted > start) room[start] = wanted - start;
            if (wanted + size < start + length) room[wanted + size] = start + length - (wanted + size);
            address = wanted;
        }
    }
    if (!address) {
        const uint64_t extra = alignment > server.granularity ? alignment : 0;
        const uint64_t found = spaces_[server.number].find_room(size + extra);
        if (!found) return 0;
        address = round_up(found, alignment);
        if (address > found) give_room_back(found, address - found);
        if (found + extra > address) give_room_back(address + size, found + extra - address);
    }
    reservations_[address] = size;
    return address;
}

bool DeviceMemory::unreserve(CUdeviceptr address, uint64_t size) {
    const std::lock_guard held(lock_);
    const auto found = reservations_.find(address);
    if (found == reservations_.end() || found->second != size) return false;
    const Stretches& stretches = space_around(address).stretches;
    const auto inside = stretches.lower_bound(address);
    if (inside != stretches.end() && inside->first < address + size) return false;
    reservations_.erase(found);
    give_room_back(address, size);
    return true;
}

bool DeviceMemory::reserved(CUdeviceptr address, uint64_t size) {
    const std::lock_guard held(lock_);
    auto at = reservations_.upper_bound(address);
    if (at == reservations_.begin()) return false;
    --at;
    return size <= at->second && address - at->first <= at->second - size;
}

bool DeviceMemory::charge(CUdevice device, uint64_t bytes) {
    const std::lock_guard held(lock_);
    return account_.take(client().device(device)->place, bytes);
}

void DeviceMemory::discharge(CUdevice device, uint64_t bytes) {
    give_back(device, bytes);
}

void DeviceMemory::add_foreign(CUdeviceptr address, uint64_t size, const Context* context, Stretch::Origin origin,
                               CUdevice device) {
    const std::lock_guard held(lock_);
    space_of(device).stretches[address] = {size, device, context, origin, ++last_id_};
}

void DeviceMemory::remove_foreign(const Server& server, CUdeviceptr address) {
    const std::lock_guard held(lock_);
    spaces_[server.number].stretches.erase(address);
}

bool DeviceMemory::find(CUdeviceptr address, CUdeviceptr& base, Stretch& stretch) {
    const std::lock_guard held(lock_);
    Stretches::iterator at;
    if (!find_space(address, at)) return false;
    base = at->first;
    stretch = at->second;
    return true;
}

bool DeviceMemory::holds(CUdeviceptr address, uint64_t size, Server*& server) {
    const std::lock_guard held(lock_);
    Stretches::iterator at;
    Space* space = find_space(address, at);
    if (!space) return false;
    server = space->server;
    uint64_t left = size, here = at->second.size - (address - at->first);
    // What the program mapped itself may go on in the next mapping.
    while (left > here && at->second.origin == Stretch::Origin::mapped) {
        const uint64_t end = at->first + at->second.size;
        if (++at == space->stretches.end() || at->first != end) return false;
        left -= here;
        here = at->second.size;
    }
    return left <= here;
}

void DeviceMemory::info(CUdevice device, uint64_t& free, uint64_t& total) {
    const std::lock_guard held(lock_);
    const size_t index = client().device(device)->place;
    free = account_.left(index);
    total = account_.total(index);
}

bool DeviceMemory::scarce(CUdevice device) {
    const std::lock_guard held(lock_);
    const size_t index = client().device(device)->place;
    return account_.left(index) < account_.total(index) / scarce_part;
}

template <class Which>
void DeviceMemory::forget_all(Which which) {
    std::vector<std::pair<Space*, uint64_t>> gone;
    std::unique_lock held(lock_);
    for (Space& space : spaces_) {
        for (const auto& [address, stretch] : space.stretches) {
            if (which(stretch)) gone.emplace_back(&space, address);
        }
    }
    for (const auto& [space, address] : gone) {
        const auto at = space->stretches.find(address);
        if (at != space->stretches.end() && free(*space, at, held) == CUDA_ERROR_INVALID_VALUE) {
            space->stretches.erase(address);
        }
        if (!held.owns_lock()) held.lock();
    }
}

void DeviceMemory::forget_context(const Context* context) {
    forget_pool_blocks(context);
    forget_all([context](const Stretch& stretch) { return stretch.context == context; });
}

void DeviceMemory::forget_device(CUdevice device, const Context* primary) {
    forget_pool_blocks(primary);
    forget_all([device](const Stretch& stretch) {
        return stretch.device == device && stretch.context && stretch.context->primary;
    });
}

namespace shim {

CUresult cuMemAlloc_v2(CUdeviceptr* dptr, size_t bytesize) {
    Context* context = current_context();
    if (const CUresult failure = check_usable(context)) return failure;
    if (!dptr || !bytesize) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = forbid_during_capture()) return failure;
    return device_memory().allocate(context, bytesize, *dptr, context->device);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* dptr, size_t* pPitch, size_t WidthInBytes, size_t Height,
                            unsigned ElementSizeBytes) {
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!dptr || !pPitch || !WidthInBytes || !Height) return CUDA_ERROR_INVALID_VALUE;
    if (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16) return CUDA_ERROR_INVALID_VALUE;
    const int alignment = client().device(context->device)->attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT);
    const uint64_t pitch = round_up(WidthInBytes, std::max<uint64_t>(512, static_cast<uint64_t>(alignment)));
    uint64_t bytes = 0;
    if (pitch < WidthInBytes || __builtin_mul_overflow(pitch, Height, &bytes)) return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = shim::cuMemAlloc_v2(dptr, bytes);
    if (!result) *pPitch = pitch;
    return result;
}

// The address says whose memory it is: no context need be current. One that has failed frees nothing.
CUresult cuMemFree_v2(CUdeviceptr dptr) {
    const CUresult current = check_usable(current_context());
    const bool none = current == CUDA_ERROR_INVALID_CONTEXT || current == CUDA_ERROR_CONTEXT_IS_DESTROYED;
    if (current && (!none || !dptr)) return current;
    if (!dptr) return CUDA_SUCCESS;
    if (const CUresult failure = forbid_during_capture()) return failure;
    CUdeviceptr base = 0;
    Stretch stretch;
    bool of_pool = false;
    if (!device_memory().find(dptr, base, stretch)) {
        const CUresult result = free_of_pool(dptr, of_pool);  // one on the host
        return of_pool ? result : CUDA_ERROR_INVALID_VALUE;
    }
    const ContextScope scope(stretch.context ? *stretch.context : *primary_context(stretch.device));
    if (const CUresult failure = check_usable(current_context())) return failure;
    // NVIDIA's call returns when the GPU's work is done. Here it costs no round trip, but where the program could see
    // that work go on: in memory that both reach, or by host functions.
    if (any_twin() || host_functions_pending()) {
        if (const CUresult failure = shim::cuCtxSynchronize()) return failure;
    }
    const CUresult result = free_of_pool(dptr, of_pool);
    return of_pool ? result : device_memory().free(dptr);
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    const Context* context = current_context();
    if (const CUresult failure = check_usable(context)) return failure;
    uint64_t left = 0, all = 0;
    device_memory().info(context->device, left, all);
    if (free) *free = left;
    if (total) *total = all;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUdeviceptr base = 0;
    Stretch stretch;
    if (!device_memory().find(dptr, base, stretch)) return CUDA_ERROR_NOT_FOUND;
    if (pbase) *pbase = base;
    if (psize) *psize = stretch.size;
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
