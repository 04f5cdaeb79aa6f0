#include "twins.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "call.h"
#include "host_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

constexpr uint64_t page = 4096;

// On one server.
struct Replica {
    Server* server = nullptr;
    uint64_t address = 0;           // there
    std::unique_ptr<char[]> known;  // what both ends have agreed on
};

struct Twin {
    char* memory = nullptr;
    uint64_t size = 0;
    bool pageable = false;  // the program may have freed it
    std::vector<Replica> replicas;

    Replica* on(const Server& server) {
        for (Replica& replica : replicas) {
            if (replica.server == &server) return &replica;
        }
        return nullptr;
    }
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
// By address, which is the same on all servers but for what their drivers placed themselves.
std::map<uint64_t, Twin>& twins() {
    static auto* all = new std::map<uint64_t, Twin>;
    return *all;
}
// Where several servers' drivers have placed one variable: server and address there → its address in this process.
std::map<std::pair<const Server*, uint64_t>, uint64_t>& joined() {
    static auto* all = new std::map<std::pair<const Server*, uint64_t>, uint64_t>;
    return *all;
}

// The twin around an address, null when there is none. The caller holds the lock.
Twin* twin_around(uint64_t address, uint64_t& offset) {
    auto at = twins().upper_bound(address);
    if (at == twins().begin()) return nullptr;
    --at;
    offset = address - at->first;
    return offset < at->second.size ? &at->second : nullptr;
}

// The same by an address on a server. The caller holds the lock.
Twin* twin_on(const Server& server, uint64_t address, uint64_t& offset) {
    if (auto at = joined().upper_bound({&server, address}); at != joined().begin() && (--at)->first.first == &server) {
        const auto twin = twins().find(at->second);
        offset = address - at->first.second;
        if (twin != twins().end() && offset < twin->second.size) return &twin->second;
    }
    Twin* found = twin_around(address, offset);
    const Replica* replica = found ? found->on(server) : nullptr;
    return replica && replica->address == address - offset ? found : nullptr;
}

std::map<uint64_t, uint64_t>& room() {
    static auto* all = new std::map<uint64_t, uint64_t>{{client().snapshot().host_base, client().snapshot().host_size}};
    return *all;
}

constexpr uint64_t round_up(uint64_t size) {
    return (size + page - 1) / page * page;
}

CUresult send_changes(const Twin& twin, Replica& replica) {
    std::array<char, page> copy;
    for (uint64_t start = 0; start < twin.size; start += page) {
        const uint64_t part = std::min(page, twin.size - start);
        char* known = replica.known.get() + start;
        const char* memory = twin.memory + start;
        if (twin.pageable) {
            if (!read_pageable(copy.data(), memory, part)) continue;
            memory = copy.data();
        }
        if (std::memcmp(memory, known, part) == 0) continue;
        std::memcpy(known, memory, part);
        Call call(Op::write_twin);
        call.go_to(*replica.server);
        call.value<uint64_t>(replica.address + start);
        call.value<uint64_t>(part);
        call.bytes({known, part});
        if (const CUresult failure = call.post_anywhere()) return failure;
    }
    return CUDA_SUCCESS;
}

// The twin that holds the whole range, with its address. The caller holds the lock.
Twin* find_twin(const char* memory, size_t size, uint64_t& address) {
    for (auto& [start, twin] : twins()) {
        if (memory < twin.memory || memory + size > twin.memory + twin.size) continue;
        address = start;
        return &twin;
    }
    return nullptr;
}

// A stream or a kernel may be waiting for a word that the program writes without any call: small memory, where such
// words are, is looked at now and then.
constexpr uint64_t most_watched = 64u << 10;
constexpr auto watch_interval = std::chrono::milliseconds(2);

void watch_small_twins() {
    pthread_setname_np(pthread_self(), "gpuferry-twins");
    const auto& servers = client().servers();
    while (std::any_of(servers.begin(), servers.end(), [](const auto& server) { return !server->link->lost(); })) {
        std::this_thread::sleep_for(watch_interval);
        if (twin_count == 0) continue;
        const std::lock_guard held(lock);
        for (auto& [address, twin] : twins()) {
            if (twin.pageable || twin.size > most_watched) continue;
            for (Replica& replica : twin.replicas) send_changes(twin, replica);
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

CUresult send_all_changes(const Server& server, bool pageable_too) {
    if (twin_count == 0) return CUDA_SUCCESS;
    const std::lock_guard held(lock);
    for (auto& [address, twin] : twins()) {
        if (twin.pageable && !pageable_too) continue;
        Replica* replica = twin.on(server);
        if (!replica) continue;
        if (const CUresult failure = send_changes(twin, *replica)) return failure;
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
    if (!any_adopted) return false;
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    return twin_around(address, offset) != nullptr;
}

static std::unique_ptr<char[]> copy_of(std::span<const char> content) {
    auto copy = std::make_unique<char[]>(content.size());
    std::memcpy(copy.get(), content.data(), content.size());
    return copy;
}

CUresult adopt_twin(Server& server, uint64_t address, std::span<const char> content) {
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
    Twin twin{memory, content.size(), false, {}};
    twin.replicas.push_back({&server, address, copy_of(content)});
    twins().insert_or_assign(address, std::move(twin));
    ++twin_count;
    any_adopted = true;
    return CUDA_SUCCESS;
}

void join_twin(uint64_t address, Server& server, uint64_t server_address, std::span<const char> content) {
    const std::lock_guard held(lock);
    const auto found = twins().find(address);
    if (found == twins().end() || found->second.size != content.size() || found->second.on(server)) return;
    found->second.replicas.push_back({&server, server_address, copy_of(content)});
    joined()[{&server, server_address}] = address;
}

// The caller holds the lock.
static CUresult add_replica(Server& server, Twin& twin, uint64_t address, const Device* charged) {
    if (twin.on(server)) return CUDA_SUCCESS;
    Call call(Op::make_twin);
    call.go_to(server);
    call.value<uint64_t>(address);
    call.value<uint64_t>(round_up(twin.size));
    call.value<uint64_t>(charged != nullptr);
    call.value<uint64_t>(charged ? static_cast<uint64_t>(charged->local) : 0);
    if (const CUresult failure = call.post()) return failure;
    twin.replicas.push_back({&server, address, std::make_unique<char[]>(twin.size)});
    return CUDA_SUCCESS;
}

// The caller holds the lock.
static CUresult make(Server& server, void* memory, uint64_t address, uint64_t size, const Device* charged,
                     bool pageable) {
    if (const auto known = twins().find(address); known != twins().end()) {
        return add_replica(server, known->second, address, charged);
    }
    Twin twin{static_cast<char*>(memory), size, pageable, {}};
    if (const CUresult failure = add_replica(server, twin, address, charged)) return failure;
    twins().emplace(address, std::move(twin));
    ++twin_count;
    start_watching();
    return CUDA_SUCCESS;
}

CUresult make_twin(void* memory, uint64_t address, uint64_t size, const Device* charged) {
    const std::lock_guard held(lock);
    Server& own = charged ? *charged->server : current_server();
    if (const CUresult failure = make(own, memory, address, size, charged, false)) return failure;
    for (const auto& server : client().servers()) {
        // Of a server that is lost, the calls that need it will say so.
        if (server.get() != &own) add_replica(*server, twins().at(address), address, nullptr);
    }
    return CUDA_SUCCESS;
}

CUresult find_server_address(Server& server, const void* memory, size_t size, uint64_t& server_address) {
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
    uint64_t address = 0;
    if (Twin* twin = find_twin(start, size, address)) {
        const CUresult failure = add_replica(server, *twin, address, nullptr);
        if (!failure) server_address = twin->on(server)->address + static_cast<uint64_t>(start - twin->memory);
        return failure;
    }
    const uint64_t in_page = reinterpret_cast<uintptr_t>(start) & (page - 1);
    const uint64_t whole = round_up(size + in_page);
    address = take_addresses(whole);
    if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
    server_address = address + in_page;
    return make(server, const_cast<char*>(start) - in_page, address, whole, nullptr, true);
}

void* find_client_address(const Server& server, uint64_t server_address) {
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    const Twin* twin = twin_on(server, server_address, offset);
    return twin ? twin->memory + offset : nullptr;
}

void end_twin(uint64_t address) {
    const std::lock_guard held(lock);
    const auto found = twins().find(address);
    if (found == twins().end()) return;
    for (const Replica& replica : found->second.replicas) {
        joined().erase({replica.server, replica.address});
        Call call(Op::end_twin);
        call.go_to(*replica.server);
        call.value<uint64_t>(replica.address);
        call.post_anywhere();
    }
    twins().erase(found);
    --twin_count;
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

// Every 8-byte word that points into pinned memory of the window.
static CUresult twin_parameters(std::span<const char> parameters) {
    for (size_t at = 0; at + sizeof(uint64_t) <= parameters.size(); at += sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, parameters.data() + at, sizeof word);
        if (!is_host_address(word)) continue;
        uintptr_t base = 0;
        PinnedBlock block;
        if (!host_memory().find(reinterpret_cast<const void*>(word), base, block)) continue;
        if (const CUresult failure = make_twin(reinterpret_cast<void*>(base), base, block.size)) return failure;
    }
    return CUDA_SUCCESS;
}

CUresult prepare_device_work(Server& server, std::span<const char> parameters) {
    if (host_memory().any() && !parameters.empty()) {
        if (const CUresult failure = twin_parameters(parameters)) return failure;
    }
    return send_all_changes(server, false);
}

CUresult prepare_graph_launch(Server& server) {
    return send_all_changes(server, true);
}

// Runs on the thread that reads replies: it must not wait for a thread that posts while holding the lock, and does not,
// because posting never waits for a reply.
void apply_device_changes(const Server& server, uint64_t server_address, std::span<const char> bytes) {
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    Twin* found = twin_on(server, server_address, offset);
    if (!found) return;
    Twin& twin = *found;
    const uint64_t size = std::min<uint64_t>(bytes.size(), twin.size - offset);
    char* known = twin.on(server)->known.get() + offset;
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
