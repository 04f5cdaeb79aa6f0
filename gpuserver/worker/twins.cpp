#include "twins.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "session.h"

namespace gpuferry::worker {
namespace {

constexpr uint64_t page = changed_page;
constexpr uint64_t lowest_address = 1u << 20, end_of_addresses = 1ull << 47;

}  // namespace

CUresult Twins::make(uint64_t address, uint64_t size, bool charged, size_t device, Quota& quota) {
    const std::lock_guard held(lock_);
    if (!size || address % page || size % page || address + size < address) return CUDA_ERROR_INVALID_VALUE;
    const auto next = twins_.lower_bound(address);
    if (next != twins_.end() && next->first < address + size) return CUDA_ERROR_INVALID_VALUE;
    if (next != twins_.begin() && std::prev(next)->first + std::prev(next)->second.size > address) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (charged && !quota.take(device, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    auto* place = reinterpret_cast<void*>(address);
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    // Never over anything of this process: a client can name any address.
    if (mmap(place, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == place) {
        result = driver.cuMemHostRegister_v2(place, size, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
        if (result) munmap(place, size);
    }
    if (result) {
        if (charged) quota.give_back(device, size);
        return result;
    }
    twins_.emplace(address, Twin{size, std::make_unique<char[]>(size), charged, device, false});
    return CUDA_SUCCESS;
}

void Twins::adopt(uint64_t address, uint64_t size) {
    const std::lock_guard held(lock_);
    Twin twin{size, std::make_unique<char[]>(size), false, 0, true};
    std::memcpy(twin.known.get(), reinterpret_cast<const char*>(address), size);
    twins_.insert_or_assign(address, std::move(twin));
}

CUresult Twins::end(uint64_t address, Quota& quota) {
    const std::lock_guard held(lock_);
    const auto found = twins_.find(address);
    if (found == twins_.end()) return CUDA_ERROR_INVALID_VALUE;
    if (found->second.adopted) {
        twins_.erase(found);
        return CUDA_SUCCESS;
    }
    auto* place = reinterpret_cast<void*>(address);
    const CUresult result = driver.cuMemHostUnregister(place);
    if (result) return result;  // the driver still uses it: it stays
    munmap(place, found->second.size);
    if (found->second.charged) quota.give_back(found->second.device, found->second.size);
    twins_.erase(found);
    return result;
}

bool Twins::holds(uint64_t address, uint64_t size) {
    const std::lock_guard held(lock_);
    auto at = twins_.upper_bound(address);
    if (at == twins_.begin()) return false;
    --at;
    const uint64_t offset = address - at->first;
    return offset <= at->second.size && size <= at->second.size - offset;
}

CUresult Twins::write(uint64_t address, const ChangedBytes& changed, std::span<const char> bytes) {
    const std::lock_guard held(lock_);
    auto at = twins_.upper_bound(address);
    if (at == twins_.begin()) return CUDA_ERROR_INVALID_VALUE;
    --at;
    const uint64_t offset = address - at->first;
    if (offset > at->second.size || bytes.size() > at->second.size - offset) return CUDA_ERROR_INVALID_VALUE;
    char* known = at->second.known.get() + offset;
    changed.for_each_run(
        bytes.size(), [&](size_t start, size_t end) { std::memcpy(known + start, bytes.data() + start, end - start); });
    write_changed(reinterpret_cast<char*>(address), bytes.data(), changed, bytes.size());
    return CUDA_SUCCESS;
}

void Twins::collect(const Send& send) {
    const std::lock_guard held(lock_);
    std::array<char, page> now;  // the device may go on writing
    for (auto& [address, twin] : twins_) {
        const auto* memory = reinterpret_cast<const char*>(address);
        for (uint64_t start = 0; start < twin.size; start += page) {
            const uint64_t part = std::min(page, twin.size - start);
            char* known = twin.known.get() + start;
            if (std::memcmp(memory + start, known, part) == 0) continue;
            std::memcpy(now.data(), memory + start, part);
            ChangedBytes changed;
            if (!changed.find(now.data(), known, part)) continue;
            std::memcpy(known, now.data(), part);
            send(address + start, changed, {known, part});
        }
    }
}

void serve_make_twin(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto charged = in.value<uint64_t>();
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    const bool inside = address >= session.host_base && address - session.host_base <= session.host_size &&
                        size <= session.host_size - (address - session.host_base);
    // Elsewhere, the client's own address of registered memory: granted where this process has nothing there.
    const bool own = address >= lowest_address && address < end_of_addresses && size <= end_of_addresses - address &&
                     size <= session.host_size && !charged;
    if (!in.good() || !(inside || own) || device >= session.devices.size()) return out.refuse(in);
    // The request may come while no context is current; the driver wants one.
    if (!session.current()) driver.cuCtxSetCurrent(session.devices.front().primary);
    out.result = session.twins.make(address, size, charged, device, session.quota);
    if (!session.current()) driver.cuCtxSetCurrent(nullptr);
}

void serve_end_twin(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    Session& session = in.session;
    // The program may have no context current when memory goes; the driver wants one.
    if (!session.current()) driver.cuCtxSetCurrent(session.devices.front().primary);
    out.result = session.twins.end(address, session.quota);
    if (!session.current()) driver.cuCtxSetCurrent(nullptr);
}

void serve_write_twin(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    ChangedBytes changed;
    const char* bits = size > page ? nullptr : in.fields().take_bytes(ChangedBytes::wire_size(size));
    const char* bytes = bits ? in.fields().take_bytes(size) : nullptr;
    if (!in.good() || !bits || !bytes || !changed.read(bits, size)) return out.refuse(in);
    out.result = in.session.twins.write(address, changed, {bytes, size});
}

}  // namespace gpuferry::worker
