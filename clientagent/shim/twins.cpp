#include "twins.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

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
#include "program_memory.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

constexpr uint64_t page = changed_page;

// On one server.
struct Replica {
    Server* server = nullptr;
    uint64_t address = 0;           // there
    std::unique_ptr<char[]> known;  // what both ends have agreed on
};

// What a stream waits for, in bytes from the twin's start.
struct Word {
    uint64_t offset = 0, size = 0;
};

enum class Memory {
    ours,        // allocated here: it is there as long as its twin
    registered,  // the program's own, which it may have given back without a word
    pageable     // the same; it travels with the launches of graphs only
};

struct Twin {
    char* memory = nullptr;
    uint64_t size = 0;
    Memory kind = Memory::ours;
    uint64_t skipped = 0;  // bytes at the start that are other things of the program's
    std::vector<Replica> replicas{};
    std::vector<Word> words{};  // that streams wait for

    Replica* on(const Server& server) {
        for (Replica& replica : replicas) {
            if (replica.server == &server) return &replica;
        }
        return nullptr;
    }
};

// A twin's bytes as they are now. Memory of the program's own is read some pages at a time.
class Glance {
  public:
    explicit Glance(const Twin& twin) : twin_(twin) {}

    // Null where the memory is gone.
    const char* at(uint64_t start, size_t size) {
        if (twin_.kind == Memory::ours) return twin_.memory + start;
        if (start < read_ || start + size > read_ + there_) {
            read_ = start;
            there_ = read_program(bytes().data(), twin_.memory + start,
                                  std::min<uint64_t>(bytes().size(), twin_.size - start));
        }
        return start + size <= read_ + there_ ? bytes().data() + (start - read_) : nullptr;
    }

  private:
    // One for all: whoever looks holds `posting`.
    static std::array<char, 16 * page>& bytes() {
        static auto* all = new std::array<char, 16 * page>;
        return *all;
    }
    const Twin& twin_;
    uint64_t read_ = 0;  // from here on
    size_t there_ = 0;
};

// Who posts about twins holds `posting` first, so that what is read earlier arrives earlier. `lock` guards the records;
// it is never held while anything is posted, because the thread that reads replies takes it as well and the server may
// not take requests before its replies are read. Twins are made and ended under both.
std::mutex posting;
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

// The twin around an address, null when there is none. The caller holds `lock`.
Twin* twin_around(uint64_t address, uint64_t& offset) {
    auto at = twins().upper_bound(address);
    if (at == twins().begin()) return nullptr;
    --at;
    offset = address - at->first;
    return offset < at->second.size ? &at->second : nullptr;
}

// The same by an address on a server. The caller holds `lock`.
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

CUresult post_changes(Server& server, uint64_t address, const ChangedBytes& changed, std::span<const char> bytes) {
    Call call(Op::write_twin);
    call.go_to(server);
    call.value<uint64_t>(address);
    call.value<uint64_t>(bytes.size());
    call.bytes(changed.wire(bytes.size()));
    call.bytes(bytes);
    return call.post_anywhere();
}

// What the program has changed, but for words that streams wait for. The caller holds `posting`.
CUresult send_changes(const Twin& twin, Replica& replica) {
    std::array<char, page> now;
    Glance glance(twin);
    for (uint64_t start = twin.skipped, part = 0; start < twin.size; start += part) {
        part = std::min(page - start % page, twin.size - start);
        ChangedBytes changed;
        {
            const std::lock_guard held(lock);
            char* known = replica.known.get() + start;
            const char* memory = glance.at(start, part);
            if (!memory || std::memcmp(memory, known, part) == 0) continue;
            std::memcpy(now.data(), memory, part);  // the program may go on writing
            for (const Word& word : twin.words) {
                for (uint64_t at = word.offset; at < word.offset + word.size; ++at) {
                    if (at - start < part) now[at - start] = known[at - start];
                }
            }
            if (!changed.find(now.data(), known, part)) continue;
            std::memcpy(known, now.data(), part);
        }
        if (const CUresult failure =
                post_changes(*replica.server, replica.address + start, changed, {now.data(), part})) {
            return failure;
        }
    }
    return CUDA_SUCCESS;
}

// A word that streams wait for, as it was before anything else was read.
struct WordNow {
    uint64_t twin = 0;  // its address
    Word word;
    std::array<char, 8> bytes{};
};

// The caller holds `posting`.
std::vector<WordNow> read_words() {
    std::vector<WordNow> all;
    for (const auto& [address, twin] : twins()) {
        for (const Word& word : twin.words) {
            Glance glance(twin);
            const char* memory = glance.at(word.offset, word.size);
            if (!memory) continue;
            all.push_back({address, word, {}});
            std::memcpy(all.back().bytes.data(), memory, word.size);
        }
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    return all;
}

bool differs(const WordNow& now, const Replica& replica) {
    const std::lock_guard held(lock);
    return std::memcmp(replica.known.get() + now.word.offset, now.bytes.data(), now.word.size) != 0;
}

// The caller holds `posting`, and has sent whatever the program wrote before these words.
CUresult send_words(const std::vector<WordNow>& words, const Server* only) {
    for (const WordNow& now : words) {
        const auto twin = twins().find(now.twin);
        if (twin == twins().end()) continue;
        for (Replica& replica : twin->second.replicas) {
            if ((only && replica.server != only) || !differs(now, replica)) continue;
            ChangedBytes changed;
            for (uint64_t i = 0; i < now.word.size; ++i) changed.set(i);
            {
                const std::lock_guard held(lock);
                std::memcpy(replica.known.get() + now.word.offset, now.bytes.data(), now.word.size);
            }
            const CUresult failure = post_changes(*replica.server, replica.address + now.word.offset, changed,
                                                  {now.bytes.data(), now.word.size});
            if (failure) return failure;
        }
    }
    return CUDA_SUCCESS;
}

// The twin that holds the whole range, with its address. The caller holds one of the locks.
Twin* find_twin(const char* memory, size_t size, uint64_t& address) {
    for (auto& [start, twin] : twins()) {
        if (memory < twin.memory + twin.skipped || memory + size > twin.memory + twin.size) continue;
        address = start;
        return &twin;
    }
    return nullptr;
}

// A stream or a kernel may be waiting for a word that the program writes without any call: small memory, where such
// words are, is looked at now and then.
constexpr uint64_t most_watched = 64u << 10;
constexpr auto watch_interval = std::chrono::milliseconds(2);

// A word that has changed opens a stream's way: all that was written before it goes first.
bool word_changed(const std::vector<WordNow>& words) {
    return std::any_of(words.begin(), words.end(), [](const WordNow& now) {
        const Twin& twin = twins().at(now.twin);
        return std::any_of(twin.replicas.begin(), twin.replicas.end(),
                           [&now](const Replica& replica) { return differs(now, replica); });
    });
}

void watch_small_twins() {
    pthread_setname_np(pthread_self(), "gpuferry-twins");
    const auto& servers = client().servers();
    while (std::any_of(servers.begin(), servers.end(), [](const auto& server) { return !server->link->lost(); })) {
        std::this_thread::sleep_for(watch_interval);
        if (twin_count == 0) continue;
        const std::lock_guard held(posting);
        const std::vector<WordNow> words = read_words();
        const bool all = word_changed(words);
        for (auto& [address, twin] : twins()) {
            if (twin.kind == Memory::pageable || (twin.size > most_watched && !all)) continue;
            for (Replica& replica : twin.replicas) send_changes(twin, replica);
        }
        send_words(words, nullptr);
    }
}

// The caller holds `posting`.
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
    const std::lock_guard held(posting);
    const std::vector<WordNow> words = read_words();
    for (auto& [address, twin] : twins()) {
        if (twin.kind == Memory::pageable && !pageable_too) continue;
        Replica* replica = twin.on(server);
        if (!replica) continue;
        if (const CUresult failure = send_changes(twin, *replica)) return failure;
    }
    return send_words(words, &server);
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
    if (address - snapshot.host_base < snapshot.host_size) return true;
    if (!any_adopted) return false;
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    return twin_around(address, offset) != nullptr;
}

static CUresult post_end(const Replica& replica) {
    Call call(Op::end_twin);
    call.go_to(*replica.server);
    call.value<uint64_t>(replica.address);
    return call.post_anywhere();
}

static std::unique_ptr<char[]> copy_of(std::span<const char> content) {
    auto copy = std::make_unique<char[]>(content.size());
    std::memcpy(copy.get(), content.data(), content.size());
    return copy;
}

CUresult adopt_twin(Server& server, uint64_t address, std::span<const char> content) {
    const std::scoped_lock held(posting, lock);
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
    Twin twin{memory, content.size()};
    twin.replicas.push_back({&server, address, copy_of(content)});
    twins().insert_or_assign(address, std::move(twin));
    ++twin_count;
    any_adopted = true;
    return CUDA_SUCCESS;
}

void join_twin(uint64_t address, Server& server, uint64_t server_address, std::span<const char> content) {
    const std::scoped_lock held(posting, lock);
    const auto found = twins().find(address);
    if (found == twins().end() || found->second.size != content.size() || found->second.on(server)) return;
    found->second.replicas.push_back({&server, server_address, copy_of(content)});
    joined()[{&server, server_address}] = address;
}

// The caller holds `posting`. Posted, never asked for: whoever waits for a reply may have to read what others wait for.
static CUresult add_replica(Server& server, Twin& twin, uint64_t address, const Device* charged) {
    if (twin.on(server)) return CUDA_SUCCESS;
    Call call(Op::make_twin);
    call.go_to(server);
    call.value<uint64_t>(address);
    call.value<uint64_t>(round_up(twin.size));
    call.value<uint64_t>(charged != nullptr);
    call.value<uint64_t>(charged ? static_cast<uint64_t>(charged->local) : 0);
    if (const CUresult failure = call.post_anywhere()) return failure;
    auto known = std::make_unique<char[]>(twin.size);
    const std::lock_guard held(lock);
    twin.replicas.push_back({&server, address, std::move(known)});
    return CUDA_SUCCESS;
}

// The caller holds `posting`.
static void add_twin(uint64_t address, Twin twin) {
    {
        const std::lock_guard held(lock);
        twins().emplace(address, std::move(twin));
    }
    ++twin_count;
    start_watching();
}

// The caller holds `posting`.
static CUresult make(Server& server, void* memory, uint64_t address, uint64_t size, const Device* charged,
                     Memory kind = Memory::ours, uint64_t skipped = 0) {
    if (const auto known = twins().find(address); known != twins().end()) {
        return add_replica(server, known->second, address, charged);
    }
    Twin twin{static_cast<char*>(memory), size, kind, skipped};
    if (const CUresult failure = add_replica(server, twin, address, charged)) return failure;
    add_twin(address, std::move(twin));
    return CUDA_SUCCESS;
}

// On all servers, `own` the first.
static CUresult make_everywhere(Server& own, void* memory, uint64_t address, uint64_t size, const Device* charged,
                                Memory kind, uint64_t skipped) {
    const std::lock_guard held(posting);
    if (const CUresult failure = make(own, memory, address, size, charged, kind, skipped)) return failure;
    for (const auto& server : client().servers()) {
        // Of a server that is lost, the calls that need it will say so.
        if (server.get() != &own) add_replica(*server, twins().at(address), address, nullptr);
    }
    return CUDA_SUCCESS;
}

CUresult make_twin(void* memory, uint64_t address, uint64_t size, const Device* charged) {
    return make_everywhere(charged ? *charged->server : current_server(), memory, address, size, charged, Memory::ours,
                           0);
}

CUresult make_registered_twin(void* memory, uint64_t address, uint64_t size, uint64_t skipped) {
    return make_everywhere(current_server(), memory, address, size, nullptr, Memory::registered, skipped);
}

// Asks each server, which holds nothing of this process's: only it knows what lies there.
bool make_twin_in_place(void* memory, uint64_t size, uint64_t skipped) {
    const auto address = reinterpret_cast<uint64_t>(memory);
    Twin twin{static_cast<char*>(memory), size, Memory::registered, skipped};
    for (const auto& server : client().servers()) {
        Call call(Op::make_twin);
        call.go_to(*server);
        call.value<uint64_t>(address);
        call.value<uint64_t>(round_up(size));
        call.value<uint64_t>(false);
        call.value<uint64_t>(0);
        call.ask();
        if (!call.result()) {
            twin.replicas.push_back({server.get(), address, std::make_unique<char[]>(size)});
        } else if (!server->link->lost()) {
            for (const Replica& made : twin.replicas) post_end(made);
            return false;
        }
    }
    const std::lock_guard held(posting);
    any_adopted = true;
    add_twin(address, std::move(twin));
    return true;
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
    const std::lock_guard held(posting);
    uint64_t address = 0;
    if (Twin* twin = find_twin(start, size, address)) {
        const CUresult failure = add_replica(server, *twin, address, nullptr);
        if (!failure) server_address = twin->on(server)->address + static_cast<uint64_t>(start - twin->memory);
        return failure;
    }
    const uint64_t in_page = reinterpret_cast<uintptr_t>(start) & (page - 1);
    const uint64_t whole = round_up(size + in_page);
    address = take_host_addresses(whole);
    if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
    server_address = address + in_page;
    return make(server, const_cast<char*>(start) - in_page, address, whole, nullptr, Memory::pageable);
}

void* find_client_address(const Server& server, uint64_t server_address) {
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    const Twin* twin = twin_on(server, server_address, offset);
    return twin ? twin->memory + offset : nullptr;
}

void end_twin(uint64_t address) {
    const std::lock_guard held(posting);
    const auto found = twins().find(address);
    if (found == twins().end()) return;
    for (const Replica& replica : found->second.replicas) post_end(replica);
    const std::lock_guard records(lock);
    for (const Replica& replica : found->second.replicas) joined().erase({replica.server, replica.address});
    twins().erase(found);
    --twin_count;
}

void watch_word(const void* word, size_t size) {
    const std::scoped_lock held(posting, lock);
    uint64_t address = 0;
    Twin* twin = find_twin(static_cast<const char*>(word), size, address);
    if (!twin || twin->kind == Memory::pageable) return;
    const auto offset = static_cast<uint64_t>(static_cast<const char*>(word) - twin->memory);
    const auto same = [&](const Word& known) { return known.offset == offset && known.size == size; };
    if (std::none_of(twin->words.begin(), twin->words.end(), same)) twin->words.push_back({offset, size});
}

bool any_twin() {
    return twin_count > 0;
}

bool in_twin(const void* memory, size_t size) {
    if (twin_count == 0) return false;
    const std::lock_guard held(lock);
    const auto* start = static_cast<const char*>(memory);
    for (const auto& [address, twin] : twins()) {
        if (start < twin.memory + twin.size && twin.memory + twin.skipped < start + size) return true;
    }
    return false;
}

// Every 8-byte word that points into pinned memory of the window.
static CUresult twin_parameters(std::span<const char> parameters) {
    for (size_t at = 0; at + sizeof(uint64_t) <= parameters.size(); at += sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, parameters.data() + at, sizeof word);
        const bool registered = host_memory().any_registered();
        if (!registered && !is_host_address(word)) continue;
        uintptr_t base = 0;
        PinnedBlock block;
        if (!host_memory().find(reinterpret_cast<const void*>(word), base, block)) continue;
        if (block.registered) {  // at its own address, where that is possible
            CUdeviceptr address = 0;
            shim::cuMemHostGetDevicePointer_v2(&address, reinterpret_cast<void*>(word), 0);
            continue;
        }
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

// Runs on the thread that reads replies: it waits for nobody who posts.
void apply_device_changes(const Server& server, uint64_t server_address, const ChangedBytes& changed,
                          std::span<const char> bytes) {
    const std::lock_guard held(lock);
    uint64_t offset = 0;
    Twin* twin = twin_on(server, server_address, offset);
    if (!twin) return;
    const uint64_t size = std::min<uint64_t>(bytes.size(), twin->size - offset);
    char* known = twin->on(server)->known.get() + offset;
    ChangedBytes ours = changed;
    for (uint64_t i = 0; i < size && offset + i < twin->skipped; ++i) ours.clear(i);
    std::vector<Run> runs;
    ours.for_each_run(size, [&](size_t start, size_t end) {
        std::memcpy(known + start, bytes.data() + start, end - start);
        runs.push_back({start, end});
    });
    if (twin->kind == Memory::ours) {
        write_changed(twin->memory + offset, bytes.data(), ours, size);
    } else {
        write_program(twin->memory + offset, bytes.data(), runs);
    }
}

}  // namespace gpuferry
