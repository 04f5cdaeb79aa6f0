// Device memory at addresses that the client chose within its window.
#include "session.h"

namespace gpuferry::worker {
namespace {

// Whether the stretch lies in the window, on its granules, and touches nothing that is mapped.
bool is_free(const Session& session, uint64_t address, uint64_t size) {
    if (!size || address % session.granularity || size % session.granularity) return false;
    if (address < session.window_base || address - session.window_base > session.window_size) return false;
    if (size > session.window_size - (address - session.window_base)) return false;
    const auto next = session.mappings.lower_bound(address);
    if (next != session.mappings.end() && next->first < address + size) return false;
    if (next == session.mappings.begin()) return true;
    const auto before = std::prev(next);
    return before->first + before->second.size <= address;
}

CUresult map(Session& session, uint64_t address, uint64_t size, size_t device) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = session.devices[device].device;
    Mapping mapping{size, device, 0};
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
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size() || !is_free(session, address, size)) return out.refuse(in);
    if (!session.quota.take(device, size)) {
        out.result = CUDA_ERROR_OUT_OF_MEMORY;
        return;
    }
    out.result = map(session, address, size, device);
    if (out.result) session.quota.give_back(device, size);
}

void serve_unmap_memory(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || found == session.mappings.end()) return out.refuse(in);
    const Mapping mapping = found->second;
    session.mappings.erase(found);
    session.quota.give_back(mapping.device, mapping.size);
    session.reaper.give_back(session.devices[mapping.device].primary, address, mapping);
    out.result = CUDA_SUCCESS;
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

}  // namespace gpuferry::worker
