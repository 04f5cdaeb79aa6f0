// Device memory at addresses that the client chose within its window.
#include <unistd.h>

#include "session.h"

namespace gpuferry::worker {

bool Session::is_free(uint64_t address, uint64_t size) const {
    if (!size || address % granularity || size % granularity) return false;
    if (address < window_base || address - window_base > window_size) return false;
    if (size > window_size - (address - window_base)) return false;
    const auto next = mappings.lower_bound(address);
    if (next != mappings.end() && next->first < address + size) return false;
    if (next == mappings.begin()) return true;
    const auto before = std::prev(next);
    return before->first + before->second.size <= address;
}

namespace {

CUresult map(Session& session, uint64_t address, uint64_t size, size_t device, bool of_pool) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = session.devices[device].device;
    Mapping mapping{size, device, 0, of_pool, nullptr};
    CUresult result = driver.cuMemCreate(&mapping.memory, size, &prop, 0);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        session.reaper.drain();  // freed by the client, not yet by the GPU
        result = driver.cuMemCreate(&mapping.memory, size, &prop, 0);
    }
    if (result) return result;
    result = driver.cuMemMap(address, size, 0, mapping.memory, 0);
    if (result == CUDA_ERROR_INVALID_VALUE) {
        session.reaper.drain();  // the address is about to be free
        result = driver.cuMemMap(address, size, 0, mapping.memory, 0);
    }
    if (result) {
        driver.cuMemRelease(mapping.memory);
        return result;
    }
    CUmemAccessDesc access{prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    result = driver.cuMemSetAccess(address, size, &access, 1);
    if (!result && !of_pool) result = session.peers.grant(session, address, size, device);
    if (result) {
        driver.cuMemUnmap(address, size);
        driver.cuMemRelease(mapping.memory);
        return result;
    }
    session.mappings.emplace(address, mapping);
    return CUDA_SUCCESS;
}

}  // namespace

void serve_map_memory(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto device = in.value<uint64_t>();
    const bool of_pool = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size() || !session.is_free(address, size)) return out.refuse(in);
    if (!session.quota.take(device, size)) {
        out.result = CUDA_ERROR_OUT_OF_MEMORY;
        return;
    }
    out.result = map(session, address, size, device, of_pool);
    if (out.result) session.quota.give_back(device, size);
}

void serve_unmap_memory(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || found == session.mappings.end() || found->second.held) return out.refuse(in);
    const Mapping mapping = found->second;
    session.mappings.erase(found);
    out.result = CUDA_SUCCESS;
    if (session.is_idle()) {
        driver.cuMemUnmap(address, mapping.size);
        driver.cuMemRelease(mapping.memory);
        session.quota.give_back(mapping.device, mapping.size);
        return;
    }
    // It counts until the GPU has it back: else the lease would hold more than its slice for a while.
    session.reaper.give_back(session.devices[mapping.device].primary, address, mapping,
                             [&session, mapping] { session.quota.give_back(mapping.device, mapping.size); });
}

// Replies when everything freed so far can be used again.
void serve_fence_memory(Request& in, Answer& out) {
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size()) return out.refuse(in);
    if (!(in.header.flags & request_awaited)) return;
    out.later = true;
    const uint64_t number = in.header.number;
    session.reaper.fence(session.devices[device].primary,
                         [&session, number] { session.reply(number, CUDA_SUCCESS, {}); });
}

// What another GPU may do with memory of a pool.
void serve_set_rights(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const auto device = in.value<uint64_t>();
    const auto flags = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || device >= session.devices.size() || found == session.mappings.end() || found->second.held ||
        !found->second.of_pool || flags > CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
        return out.refuse(in);
    }
    CUmemAccessDesc right{};
    right.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    right.location.id = session.devices[device].device;
    right.flags = static_cast<CUmemAccess_flags>(flags);
    out.result = driver.cuMemSetAccess(address, found->second.size, &right, 1);
}

// Memory that a graph has allocated and not freed: the driver's own choice of address, outside the window.
void serve_free_of_graph(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const bool in_stream = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    Session& session = in.session;
    if (!in.good() || address - session.window_base < session.window_size) return out.refuse(in);
    out.result = in_stream ? driver.cuMemFreeAsync(address, stream) : driver.cuMemFree_v2(address);
}

// Physical memory that the program maps itself. It counts against the slice while its handle or a mapping is left.
struct Physical : Detail {
    Physical(Quota& from, size_t gpu, uint64_t size) : quota(from), device(gpu), bytes(size) {}
    ~Physical() override { quota.give_back(device, bytes); }
    Quota& quota;
    size_t device;
    uint64_t bytes;
};

struct PhysicalHandle : Detail {
    std::shared_ptr<Physical> physical;
};

void serve_create_physical(Request& in, Answer& out) {
    const Handle name = in.name(Kind::allocation);
    const auto size = in.value<uint64_t>();
    const auto device = in.value<uint64_t>();
    const bool exportable = in.value<uint64_t>();
    const auto usage = in.value<uint64_t>(), compression = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size() || size % session.granularity) return out.refuse(in);
    CUmemGenericAllocationHandle memory = 0;
    auto handle = std::make_unique<PhysicalHandle>();
    if (session.quota.take(device, size)) {
        handle->physical = std::make_shared<Physical>(session.quota, device, size);
        CUmemAllocationProp prop{};
        prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
        prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
        prop.location.id = session.devices[device].device;
        if (exportable) prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        prop.allocFlags.usage = static_cast<unsigned short>(usage);
        prop.allocFlags.compressionType = static_cast<unsigned char>(compression);
        out.result = driver.cuMemCreate(&memory, size, &prop, 0);
        if (out.result == CUDA_ERROR_OUT_OF_MEMORY) {
            session.reaper.drain();
            out.result = driver.cuMemCreate(&memory, size, &prop, 0);
        }
    } else {
        out.result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    in.bind(name, out.result, memory, 0);
    if (!out.result) session.objects.find(Kind::allocation, name)->detail = std::move(handle);
}

void serve_release_physical(Request& in, Answer& out) {
    const auto memory = in.handle<CUmemGenericAllocationHandle>(Kind::allocation);
    if (!in.good() || !memory) return out.refuse(in);
    out.result = driver.cuMemRelease(memory);
    in.forget(Kind::allocation);
}

void serve_export_physical(Request& in, Answer& out) {
    const auto memory = in.handle<CUmemGenericAllocationHandle>(Kind::allocation);
    if (!in.good() || !memory) return out.refuse(in);
    SharingKey key{};
    out.result = in.session.shared_memory.share(memory, key);
    if (out.result) return;
    Encoder answer(out.payload);
    answer.put<uint64_t>(static_cast<uint64_t>(getpid()));
    answer.put(key);
}

// It counts where it was made.
void serve_import_physical(Request& in, Answer& out) {
    const Handle name = in.name(Kind::allocation);
    const auto process = in.value<uint64_t>();
    const auto key = in.value<SharingKey>();
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size()) return out.refuse(in);
    CUmemGenericAllocationHandle memory = 0;
    out.result = SharedMemory::import(static_cast<uint32_t>(process), key, memory);
    in.bind(name, out.result, memory, 0);
    if (out.result) return;
    auto handle = std::make_unique<PhysicalHandle>();
    handle->physical = std::make_shared<Physical>(session.quota, device, 0);
    session.objects.find(Kind::allocation, name)->detail = std::move(handle);
}

// A new handle for what the program has mapped at an address.
void serve_retain_physical(Request& in, Answer& out) {
    const Handle name = in.name(Kind::allocation);
    const auto address = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || found == session.mappings.end() || !found->second.held || found->second.memory) {
        return out.refuse(in);
    }
    CUmemGenericAllocationHandle memory = 0;
    out.result = driver.cuMemRetainAllocationHandle(&memory, reinterpret_cast<void*>(address));
    in.bind(name, out.result, memory, 0);
    if (out.result) return;
    auto handle = std::make_unique<PhysicalHandle>();
    handle->physical = std::static_pointer_cast<Physical>(found->second.held);
    session.objects.find(Kind::allocation, name)->detail = std::move(handle);
}

void serve_map_physical(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto offset = in.value<uint64_t>();
    const auto memory = in.handle<CUmemGenericAllocationHandle>(Kind::allocation);
    Session& session = in.session;
    if (!in.good() || !memory || !session.is_free(address, size)) return out.refuse(in);
    out.result = driver.cuMemMap(address, size, offset, memory, 0);
    if (out.result == CUDA_ERROR_INVALID_VALUE) {
        session.reaper.drain();  // the address is about to be free
        out.result = driver.cuMemMap(address, size, offset, memory, 0);
    }
    if (out.result) return;
    const Object* object = session.objects.find(Kind::allocation, in.last(Kind::allocation));
    const auto& physical = static_cast<PhysicalHandle*>(object->detail.get())->physical;
    session.mappings.emplace(address, Mapping{size, physical->device, 0, false, physical});
}

void serve_unmap_physical(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || found == session.mappings.end() || !found->second.held || found->second.memory) {
        return out.refuse(in);
    }
    session.finish_uploads();
    out.result = driver.cuMemUnmap(address, found->second.size);
    session.mappings.erase(found);
}

}  // namespace gpuferry::worker
