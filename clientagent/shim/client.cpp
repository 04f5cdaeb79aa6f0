#include "client.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include "address_windows.h"
#include "contexts.h"
#include "deliveries.h"
#include "device_memory.h"
#include "entry.h"
#include "handshake.h"
#include "settings.h"
#include "visible_devices.h"

namespace gpuferry {
namespace {

// What a device on another machine cannot do with this machine's memory, files and graphics, whatever its driver says,
// and what of the server's own is not forwarded: a program that asks first takes another way.
constexpr int not_over_a_network[] = {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
                                      CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
                                      CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
                                      CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
                                      CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
                                      CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_LOCALIZED_MEMORY_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_DMA_BUF_MMAP_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_D3D12_CIG_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_D3D12_CIG_STREAMS_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_VULKAN_CIG_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_VULKAN_CIG_STREAMS_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS,
                                      CU_DEVICE_ATTRIBUTE_LOGICAL_ENDPOINT_UNICAST_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_LOGICAL_ENDPOINT_MULTICAST_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_LOGICAL_ENDPOINT_COUNTED_OPS_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_LOGICAL_ENDPOINT_SUPPORTED_HANDLE_TYPES,
                                      CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH};

std::atomic<bool> session_is_open = false;

// The same addresses as on the server, without access: no host pointer can ever equal a device pointer.
void reserve(uint64_t base, uint64_t size) {
    void* wanted = reinterpret_cast<void*>(base);
    void* place =
        mmap(wanted, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (place != wanted) {
        throw HandshakeError("this program already uses the addresses of the GPU server's device memory (" +
                             std::string(std::strerror(errno)) + ")");
    }
}

// Server `number` of `count` puts its window into its own part of the addresses where windows may be; until they are
// there, the other parts count as taken.
std::vector<Window> windows_of_others(size_t number, size_t count) {
    constexpr uint64_t first = device_windows[0].start, end = device_windows[0].end;
    constexpr uint64_t all = 1ull << 47, gibibyte = 1ull << 30;
    if (count == 1) return {};
    const uint64_t part = (end - first) / count / gibibyte * gibibyte;
    const uint64_t start = first + number * part;
    return {{0, start}, {start + part, all - start - part}};
}

std::string uuid_text(const CUuuid& uuid) {
    std::string text = "GPU-";
    for (size_t i = 0; i < sizeof uuid.bytes; ++i) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += digits;
    }
    return text;
}

void forget_session_in_child() {
    device_memory().account().abandon();
    client().set_forked();
    update_entry_mode();
}

}  // namespace

Client& client() {
    static auto* only = new Client;
    return *only;
}

void Client::open() {
    const std::vector<ServerSettings> all = server_settings();
    for (size_t i = 0; i < all.size(); ++i) {
        servers_.push_back(std::make_unique<Server>());
        servers_.back()->number = static_cast<unsigned>(i);
        servers_.back()->address = all[i].address;
    }
    home_ = servers_.front().get();
    counted_together_ = device_memory().account().open(setting("GPUFERRY_LEASE"));
    std::vector<std::unique_ptr<Reply>> replies(all.size());
    open_together(all, replies);
    for (size_t i = 0; i < all.size(); ++i) {
        Server& server = *servers_[i];
        if (replies[i]->header.result && i) {  // perhaps for want of addresses in its part: now the others' are known
            shutdown(server.link->descriptor(), SHUT_RDWR);
            open_session(server, all[i], windows_before(i), replies[i]);
        }
        check_answer(server, *replies[i]);
        read_snapshot(server, replies[i]->payload);
        reserve(server.window_base, server.window_size);
    }
    session_is_open = true;
    reserve(snapshot_.host_base, snapshot_.host_size);
    hide_devices();
    device_memory().open(snapshot_);
    open_contexts(snapshot_);
}

// All servers at once: the start of a session takes a driver long. Each gets a part of the addresses for its window.
void Client::open_together(const std::vector<ServerSettings>& all, std::vector<std::unique_ptr<Reply>>& replies) {
    std::vector<std::exception_ptr> failures(all.size());
    const auto open_one = [&](size_t i) {
        try {
            open_session(*servers_[i], all[i], windows_of_others(i, all.size()), replies[i]);
        } catch (...) {
            failures[i] = std::current_exception();
        }
    };
    sigset_t signals, before;  // the program's signals are for the program's threads
    sigfillset(&signals);
    pthread_sigmask(SIG_SETMASK, &signals, &before);
    std::vector<std::thread> threads;
    for (size_t i = 1; i < all.size(); ++i) threads.emplace_back(open_one, i);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    open_one(0);
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

std::vector<Window> Client::windows_before(size_t number) const {
    std::vector<Window> taken;
    for (size_t i = 0; i < number; ++i) taken.push_back({servers_[i]->window_base, servers_[i]->window_size});
    return taken;
}

void Client::open_session(Server& server, const ServerSettings& settings, const std::vector<Window>& taken,
                          std::unique_ptr<Reply>& reply) {
    reply = std::make_unique<Reply>();
    const int descriptor = dial(settings, ConnectionPurpose::session);
    server.link = new Link(
        descriptor, [&server](Delivery kind, std::span<const char> payload) { deliver(server, kind, payload); },
        [&server](const char* reason) {
            // Where the session was not open yet, whoever opens it says what went wrong.
            if (session_is_open) {
                say("the connection to GPU server " + server.address + " is lost: " + reason +
                    (client().has_several_servers() ? ". Every CUDA call for its GPUs fails from now on"
                                                    : ". Every CUDA call fails from now on"));
            }
            device_memory().account().surrender(server.first_device, server.devices);
        });
    Bytes wishes;
    Encoder fields(wishes);
    fields.put<uint64_t>(counted_together_);
    fields.put<uint64_t>(server.number);
    fields.put<uint64_t>(taken.size());
    for (const Window& window : taken) fields.put(window);
    if (!server.link->ask(Op::open_session, 0, wishes.view(), *reply)) {
        throw HandshakeError("GPU server " + server.address +
                             " ended the session at once: wrong secret, or its worker failed; its log says which");
    }
}

void Client::check_answer(const Server& server, const Reply& reply) {
    if (!reply.header.result) return;
    const std::string_view why = Decoder(reply.payload).take_text();
    throw HandshakeError("GPU server " + server.address + ": " +
                         (why.empty()
                              ? "no usable GPU for this lease (CUDA error " + std::to_string(reply.header.result) + ")"
                              : std::string(why)));
}

// CUDA_VISIBLE_DEVICES hides GPUs and orders them, for CUDA; NVML shows them all.
void Client::hide_devices() {
    const char* wanted = std::getenv("CUDA_VISIBLE_DEVICES");
    if (!wanted) return;
    std::vector<std::string> uuids;
    for (const Device& device : snapshot_.devices) uuids.push_back(uuid_text(device.uuid));
    std::vector<Device> visible;
    for (const size_t number : visible_devices(wanted, uuids)) visible.push_back(snapshot_.devices[number]);
    snapshot_.devices = std::move(visible);
    if (!snapshot_.devices.empty()) home_ = snapshot_.devices.front().server;
}

void Client::read_snapshot(Server& server, std::span<const char> payload) {
    Decoder fields(payload);
    Snapshot& s = snapshot_;
    const auto version = static_cast<int>(fields.take<int64_t>());
    s.driver_version = s.driver_version ? std::min(s.driver_version, version) : version;
    server.window_base = fields.take<uint64_t>();
    server.window_size = fields.take<uint64_t>();
    server.granularity = fields.take<uint64_t>();
    const auto host_base = fields.take<uint64_t>(), host_size = fields.take<uint64_t>();
    if (s.host_size && (host_base != s.host_base || host_size != s.host_size)) {
        throw HandshakeError("GPU server " + server.address + " keeps other addresses for host memory than " +
                             home().address + ": install the same gpuferry version on both");
    }
    s.host_base = host_base, s.host_size = host_size;
    const auto count = fields.take<uint64_t>();
    server.first_device = s.devices.size();
    for (uint64_t i = 0; fields.good() && i < count; ++i) read_device(server, fields, count);
    server.devices = s.devices.size() - server.first_device;
    for (auto code = fields.take<int64_t>(); fields.good() && code >= 0; code = fields.take<int64_t>()) {
        ErrorText& text = s.errors[static_cast<int>(code)];
        text.name = fields.take_text();
        text.text = fields.take_text();
    }
    if (!fields.good() || !server.granularity) {
        throw HandshakeError("the first answer of GPU server " + server.address + " is incomplete");
    }
}

void Client::read_device(Server& server, Decoder& fields, uint64_t devices) {
    Device device;
    device.server = &server;
    device.place = snapshot_.devices.size();
    device.local = static_cast<CUdevice>(device.place - server.first_device);
    device.name = fields.take_text();
    device.uuid = fields.take<CUuuid>();
    device.uuid_v2 = fields.take<CUuuid>();
    device.total = fields.take<uint64_t>();
    device.limit = fields.take<uint64_t>();
    device.bus_id = fields.take_text();
    device.properties = fields.take<CUdevprop>();
    const auto numbers = fields.take<uint64_t>();
    const char* pairs = fields.take_bytes(numbers * sizeof(int32_t));
    for (uint64_t at = 0; pairs && at + 1 < numbers; at += 2) {
        int32_t pair[2];
        std::memcpy(pair, pairs + at * sizeof(int32_t), sizeof pair);
        device.attributes[pair[0]] = pair[1];
    }
    for (const int attribute : not_over_a_network) device.attributes[attribute] = 0;
    device.attributes[CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID] += static_cast<int>(pci_domain_offset(server.number));
    device.bus_id = program_bus_id(device.bus_id, server.number);
    device.primary = fields.take<uint64_t>();
    if (gpuferry::server_of(device.primary) != server.number) fields.spoil();
    device.can_access.resize(devices);
    if (const char* peers = fields.take_bytes(devices * sizeof(int32_t))) {
        std::memcpy(device.can_access.data(), peers, devices * sizeof(int32_t));
    }
    snapshot_.devices.push_back(std::move(device));
}

CUdevice Client::ordinal_at(uint64_t place) const {
    for (size_t i = 0; i < snapshot_.devices.size(); ++i) {
        if (snapshot_.devices[i].place == place) return static_cast<CUdevice>(i);
    }
    return -1;
}

CUdevice Client::ordinal_of(const Server& server, int local) const {
    for (size_t i = 0; i < snapshot_.devices.size(); ++i) {
        if (snapshot_.devices[i].server == &server && snapshot_.devices[i].local == local) {
            return static_cast<CUdevice>(i);
        }
    }
    return local;
}

CUresult Client::connect() {
    const std::lock_guard held(connecting_);
    if (tried_) return failure_;
    tried_ = true;
    try {
        open();
        pthread_atfork(nullptr, nullptr, forget_session_in_child);
    } catch (const std::exception& error) {
        say(error.what());
        failure_ = CUDA_ERROR_DEVICE_UNAVAILABLE;
    }
    return failure_;
}

CUresult Client::initialise() {
    if (state() == ClientState::forked) return CUDA_ERROR_NOT_INITIALIZED;
    if (state() == ClientState::ready) return CUDA_SUCCESS;
    if (const CUresult failure = connect()) return failure;
    if (snapshot_.devices.empty()) return CUDA_ERROR_NO_DEVICE;
    state_.store(ClientState::ready, std::memory_order_release);
    return CUDA_SUCCESS;
}

}  // namespace gpuferry
