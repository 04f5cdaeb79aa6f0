#include "twins.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "call.h"
#include "host_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

constexpr uint64_t page = 4096;

struct Twin {
    char* memory = nullptr;
    uint64_t size = 0;
    std::unique_ptr<char[]> known;  // what both ends have agreed on
    bool pageable = false;          // the program may have freed it
};

// Copies that say false where memory is gone.
bool read_pageable(void* to, const char* from, size_t size) {
    const iovec local{to, size}, remote{const_cast<char*>(from), size};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}
bool write_pageable(char* to, const char* from, size_t size) {
    const iovec local{const_cast<char*>(from), size}, remote{to, size};
    return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

std::mutex lock;
std::atomic<size_t> twin_count = 0;
std::atomic<bool> any_adopted = false;
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
    std::array<char, page> copy;
    for (uint64_t start = 0; start < twin.size; start += page) {
        const uint64_t part = std::min(page, twin.size - start);
        char* known = twin.known.get() + start;
        const char* memory = twin.memory + start;
        if (twin.pageable) {
            if (!read_pageable(copy.data(), memory, part)) continue;
            memory = copy.data();
        }
        if (std::memcmp(memory, known, part) == 0) continue;
        std::memcpy(known, memory, part);
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

// The twin that holds the whole range. The caller holds the lock.
bool find_twin(const char* memory, size_t size, uint64_t& server_address) {
    for (const auto& [address, twin] : twins()) {
        if (memory < twin.memory || memory + size > twin.memory + twin.size) continue;
        server_address = address + static_cast<uint64_t>(memory - twin.memory);
        return true;
    }
    return false;
}

// A stream or a kernel may be waiting for a word that the program writes without any call: small memory, where such
// words are, is looked at now and then.
constexpr uint64_t most_watched = 64u << 10;
constexpr auto watch_interval = std::chrono::milliseconds(2);

void watch_small_twins() {
    pthread_setname_np(pthread_self(), "gpuferry-twins");
    while (!client().link()->lost()) {
        std::this_thread::sleep_for(watch_interval);
        if (twin_count == 0) continue;
        const std::lock_guard held(lock);
        for (auto& [address, twin] : twins()) {
            if (!twin.pageable && twin.size <= most_watched) send_changes(address, twin);
        }
    }
}

// The caller holds the lock.
void start_watching() {
    static bool started = false;
    if (started) return;
    started = true;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread(watch_small_twins).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

CUresult send_all_changes(bool pageable_too) {
    if (twin_count == 0) return CUDA_SUCCESS;
    const std::lock_guard held(lock);
    for (auto& [address, twin] : twins()) {
        if (twin.pageable && !pageable_too) continue;
        if (const CUresult failure = send_changes(address, twin)) return failure;
    }
    return CUDA_SUCCESS;
}

}  // namespace

// The caller holds the lock.
static uint64_t take_addresses(uint64_t size) {
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

uint64_t take_host_addresses(uint64_t size) {
    const std::lock_guard held(lock);
    return take_addresses(size);
}

void give_host_addresses_back(uint64_t address, uint64_t size) {
    const std::lock_guard held(lock);
    room()[address] = round_up(size);
}

bool is_host_address(uint64_t address) {
    const Snapshot& snapshot = client().snapshot();
    if (address - snapshot.host_base < snapshot.host_size) return true;
    return any_adopted && find_client_address(address);
}

CUresult adopt_twin(uint64_t address, std::span<const char> content) {
    const std::lock_guard held(lock);
    static auto& pages = *new std::set<uint64_t>;  // that are here already: variables share pages
    for (uint64_t at = address & ~(page - 1); at < address + content.size(); at += page) {
        if (pages.contains(at)) continue;
        auto* wanted = reinterpret_cast<void*>(at);
        const void* place =
            mmap(wanted, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (place != wanted) {
            say("this program already uses the address of a managed variable of the GPU server's");
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        pages.insert(at);
    }
    auto* memory = reinterpret_cast<char*>(address);
    std::memcpy(memory, content.data(), content.size());
    Twin twin{memory, content.size(), std::make_unique<char[]>(content.size()), false};
    std::memcpy(twin.known.get(), content.data(), content.size());
    twins().insert_or_assign(address, std::move(twin));
    ++twin_count;
    any_adopted = true;
    return CUDA_SUCCESS;
}

// The caller holds the lock.
static CUresult make(void* memory, uint64_t server_address, uint64_t size, bool charged, CUdevice device,
                     bool pageable) {
    if (twins().contains(server_address)) return CUDA_SUCCESS;
    Call call(Op::make_twin);
    call.value<uint64_t>(server_address);
    call.value<uint64_t>(round_up(size));
    call.value<uint64_t>(charged);
    call.value<uint64_t>(static_cast<uint64_t>(device));
    if (const CUresult failure = call.post()) return failure;
    twins().emplace(server_address, Twin{static_cast<char*>(memory), size, std::make_unique<char[]>(size), pageable});
    ++twin_count;
    start_watching();
    return CUDA_SUCCESS;
}

CUresult make_twin(void* memory, uint64_t server_address, uint64_t size, bool charged, CUdevice device) {
    const std::lock_guard held(lock);
    return make(memory, server_address, size, charged, device, false);
}

CUresult find_server_address(const void* memory, size_t size, uint64_t& server_address) {
    const auto* start = static_cast<const char*>(memory);
    uintptr_t base = 0;
    PinnedBlock block;
    if (host_memory().find(memory, base, block)) {
        CUdeviceptr address = 0;
        const CUresult failure = shim::cuMemHostGetDevicePointer_v2(&address, const_cast<char*>(start), 0);
        server_address = address;
        return failure;
    }
    const std::lock_guard held(lock);
    if (find_twin(start, size, server_address)) return CUDA_SUCCESS;
    const uint64_t in_page = reinterpret_cast<uintptr_t>(start) & (page - 1);
    const uint64_t whole = round_up(size + in_page);
    const uint64_t address = take_addresses(whole);
    if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
    server_address = address + in_page;
    return make(const_cast<char*>(start) - in_page, address, whole, false, 0, true);
}

void* find_client_address(uint64_t server_address) {
    const std::lock_guard held(lock);
    auto at = twins().upper_bound(server_address);
    if (at == twins().begin()) return nullptr;
    --at;
    const uint64_t offset = server_address - at->first;
    return offset < at->second.size ? at->second.memory + offset : nullptr;
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
    return send_all_changes(false);
}

CUresult prepare_graph_launch() {
    return send_all_changes(true);
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
        if (bytes[i] == known[i]) continue;
        known[i] = bytes[i];
        if (!twin.pageable) {
            twin.memory[offset + i] = bytes[i];
            continue;
        }
        uint64_t end = i + 1;
        while (end < size && bytes[end] != known[end]) {
            known[end] = bytes[end];
            ++end;
        }
        write_pageable(twin.memory + offset + i, bytes.data() + i, end - i);
        i = end;
    }
}

}  // namespace gpuferry
