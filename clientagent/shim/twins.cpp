#include "twins.h"

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "call.h"
#include "host_memory.h"

namespace gpuferry {
namespace {

constexpr uint64_t page = 4096;

struct Twin {
    char* memory = nullptr;
    uint64_t size = 0;
    std::unique_ptr<char[]> known;  // what both ends have agreed on
};

std::mutex lock;
std::atomic<size_t> twin_count = 0;
std::map<uint64_t, Twin>& twins() {
    static auto* all = new std::map<uint64_t, Twin>;
    return *all;
}

std::map<uint64_t, uint64_t>& room() {
    static auto* all = new std::map<uint64_t, uint64_t>{{client().snapshot().host_base, client().snapshot().host_size}};
    return *all;
}

constexpr uint64_t round_up(uint64_t size) {
    return (size + page - 1) / page * page;
}

CUresult send_changes(uint64_t address, Twin& twin) {
    for (uint64_t start = 0; start < twin.size; start += page) {
        const uint64_t part = std::min(page, twin.size - start);
        char* known = twin.known.get() + start;
        if (std::memcmp(twin.memory + start, known, part) == 0) continue;
        std::memcpy(known, twin.memory + start, part);
        Call call(Op::write_twin);
        call.value<uint64_t>(address + start);
        call.value<uint64_t>(part);
        call.bytes({known, part});
        if (const CUresult failure = call.post_anywhere()) return failure;
    }
    return CUDA_SUCCESS;
}

// Every 8-byte word that points into pinned memory of the window.
CUresult twin_parameters(std::span<const char> parameters) {
    for (size_t at = 0; at + sizeof(uint64_t) <= parameters.size(); at += sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, parameters.data() + at, sizeof word);
        if (!is_host_address(word)) continue;
        uintptr_t base = 0;
        PinnedBlock block;
        if (!host_memory().find(reinterpret_cast<const void*>(word), base, block)) continue;
        if (const CUresult failure = make_twin(reinterpret_cast<void*>(base), base, block.size, false, 0))
            return failure;
    }
    return CUDA_SUCCESS;
}

}  // namespace

uint64_t take_host_addresses(uint64_t size) {
    const std::lock_guard held(lock);
    size = round_up(size);
    for (auto at = room().begin(); at != room().end(); ++at) {
        if (at->second < size) continue;
        const auto [start, length] = *at;
        room().erase(at);
        if (length > size) room()[start + size] = length - size;
        return start;
    }
    return 0;
}

void give_host_addresses_back(uint64_t address, uint64_t size) {
    const std::lock_guard held(lock);
    room()[address] = round_up(size);
}

bool is_host_address(uint64_t address) {
    const Snapshot& snapshot = client().snapshot();
    return address - snapshot.host_base < snapshot.host_size;
}

CUresult make_twin(void* memory, uint64_t server_address, uint64_t size, bool charged, CUdevice device) {
    const std::lock_guard held(lock);
    if (twins().contains(server_address)) return CUDA_SUCCESS;
    Call call(Op::make_twin);
    call.value<uint64_t>(server_address);
    call.value<uint64_t>(round_up(size));
    call.value<uint64_t>(charged);
    call.value<uint64_t>(static_cast<uint64_t>(device));
    if (const CUresult failure = call.post()) return failure;
    twins().emplace(server_address, Twin{static_cast<char*>(memory), size, std::make_unique<char[]>(size)});
    ++twin_count;
    return CUDA_SUCCESS;
}

void end_twin(uint64_t server_address) {
    const std::lock_guard held(lock);
    if (!twins().erase(server_address)) return;
    --twin_count;
    Call call(Op::end_twin);
    call.value<uint64_t>(server_address);
    call.post_anywhere();
}

bool in_twin(const void* memory, size_t size) {
    if (twin_count == 0) return false;
    const std::lock_guard held(lock);
    const auto* start = static_cast<const char*>(memory);
    for (const auto& [address, twin] : twins()) {
        if (start < twin.memory + twin.size && twin.memory < start + size) return true;
    }
    return false;
}

CUresult prepare_device_work(std::span<const char> parameters) {
    if (host_memory().any() && !parameters.empty()) {
        if (const CUresult failure = twin_parameters(parameters)) return failure;
    }
    if (twin_count == 0) return CUDA_SUCCESS;
    const std::lock_guard held(lock);
    for (auto& [address, twin] : twins()) {
        if (const CUresult failure = send_changes(address, twin)) return failure;
    }
    return CUDA_SUCCESS;
}

// Runs on the thread that reads replies: it must not wait for a thread that posts while holding the lock, and does not,
// because posting never waits for a reply.
void apply_device_changes(uint64_t server_address, std::span<const char> bytes) {
    const std::lock_guard held(lock);
    auto at = twins().upper_bound(server_address);
    if (at == twins().begin()) return;
    --at;
    Twin& twin = at->second;
    const uint64_t offset = server_address - at->first;
    if (offset >= twin.size) return;
    const uint64_t size = std::min<uint64_t>(bytes.size(), twin.size - offset);
    char* known = twin.known.get() + offset;
    for (uint64_t i = 0; i < size; ++i) {
        if (bytes[i] != known[i]) twin.memory[offset + i] = known[i] = bytes[i];
    }
}

}  // namespace gpuferry
