#include "client.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "contexts.h"
#include "deliveries.h"
#include "device_memory.h"
#include "entry.h"
#include "handshake.h"

namespace gpuferry {
namespace {

constexpr int connect_timeout_ms = 10'000;

// What a device on another machine cannot do with this machine's memory, whatever its driver says.
constexpr int not_over_a_network[] = {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
                                      CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
                                      CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
                                      CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
                                      CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
                                      CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
                                      CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED};

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::vector<uint8_t> from_hex(const std::string& text, const std::string& what) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) throw HandshakeError(what + " is not hexadecimal");
        bytes.push_back(static_cast<uint8_t>(high << 4 | low));
    }
    if (text.size() % 2) throw HandshakeError(what + " has an odd number of hexadecimal digits");
    return bytes;
}

std::vector<uint8_t> read_secret() {
    const std::string path = setting("GPUFERRY_SECRET_FILE");
    if (path.empty()) throw HandshakeError("GPUFERRY_SECRET_FILE is not set: start the program with `gpuferry run`");
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) throw HandshakeError("cannot read the session's secret from " + path);
    return from_hex(line, "the secret in " + path);
}

LeaseId read_lease() {
    const auto bytes = from_hex(setting("GPUFERRY_LEASE"), "GPUFERRY_LEASE");
    LeaseId lease{};
    if (bytes.size() != lease.size()) throw HandshakeError("GPUFERRY_LEASE is not 32 hexadecimal digits");
    std::memcpy(lease.data(), bytes.data(), lease.size());
    return lease;
}

void forget_session_in_child() {
    device_memory().account().abandon();
    client().set_forked();
    update_entry_mode();
}

}  // namespace

void say(const std::string& line) {
    std::fprintf(stderr, "gpuferry: %s\n", line.c_str());
}

Client& client() {
    static auto* only = new Client;
    return *only;
}

void Client::open() {
    const std::string server = setting("GPUFERRY_SERVER");
    if (server.empty()) {
        throw HandshakeError(
            "GPUFERRY_SERVER is not set: start the program with `gpuferry run --server HOST:PORT -- …`");
    }
    const LeaseId lease = read_lease();
    const std::vector<uint8_t> secret = read_secret();
    int descriptor = -1;
    try {
        descriptor = connect_to(server, connect_timeout_ms);
    } catch (const TransportError& error) {
        throw HandshakeError(std::string("cannot reach the GPU server ") + error.what() +
                             ": is `gpuferry gpuserver serve` running there, and the port open?");
    }
    {
        Connection connection(dup(descriptor));  // closed at the end of the handshake; the link keeps its own
        try {
            ClientHello hello;
            hello.lease = lease;
            hello.wanted_devices =
                static_cast<uint32_t>(std::strtoul(setting("GPUFERRY_DEVICES").c_str(), nullptr, 10));
            hello.wanted_memory_mib = std::strtoull(setting("GPUFERRY_MEMORY_MIB").c_str(), nullptr, 10);
            introduce(connection, server, secret, hello);
        } catch (...) {
            close(descriptor);
            throw;
        }
    }
    link_ = new Link(descriptor, deliver, [](const char* reason) {
        say("the connection to GPU server " + setting("GPUFERRY_SERVER") + " is lost: " + reason +
            ". Every CUDA call fails from now on");
    });
    Reply reply;
    if (!link_->ask(Op::open_session, 0, {}, reply)) {
        throw HandshakeError("GPU server " + server +
                             " ended the session at once: wrong secret, or its worker failed; its log says which");
    }
    if (reply.header.result) {
        const std::string_view why = Decoder(reply.payload).take_text();
        throw HandshakeError(
            "GPU server " + server + ": " +
            (why.empty() ? "no usable GPU for this lease (CUDA error " + std::to_string(reply.header.result) + ")"
                         : std::string(why)));
    }
    read_snapshot(reply.payload);
    reserve_window();
    device_memory().open(snapshot_, setting("GPUFERRY_LEASE"));
    open_contexts(snapshot_);
}

void Client::read_snapshot(std::span<const char> payload) {
    Decoder fields(payload);
    Snapshot& s = snapshot_;
    s.driver_version = static_cast<int>(fields.take<int64_t>());
    s.window_base = fields.take<uint64_t>();
    s.window_size = fields.take<uint64_t>();
    s.granularity = fields.take<uint64_t>();
    s.host_base = fields.take<uint64_t>();
    s.host_size = fields.take<uint64_t>();
    const auto count = fields.take<uint64_t>();
    for (uint64_t i = 0; fields.good() && i < count; ++i) {
        Device device;
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
        device.primary = fields.take<uint64_t>();
        device.can_access.resize(count);
        if (const char* peers = fields.take_bytes(count * sizeof(int32_t))) {
            std::memcpy(device.can_access.data(), peers, count * sizeof(int32_t));
        }
        s.devices.push_back(std::move(device));
    }
    for (auto code = fields.take<int64_t>(); fields.good() && code >= 0; code = fields.take<int64_t>()) {
        ErrorText& text = s.errors[static_cast<int>(code)];
        text.name = fields.take_text();
        text.text = fields.take_text();
    }
    if (!fields.good()) throw HandshakeError("the GPU server's first answer is incomplete");
}

// The same addresses as on the server, without access: no host pointer can ever equal a device pointer.
void Client::reserve_window() const {
    const std::pair<uint64_t, uint64_t> windows[] = {{snapshot_.window_base, snapshot_.window_size},
                                                     {snapshot_.host_base, snapshot_.host_size}};
    for (const auto& [base, size] : windows) {
        void* wanted = reinterpret_cast<void*>(base);
        void* place =
            mmap(wanted, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (place != wanted) {
            throw HandshakeError("this program already uses the addresses of the GPU server's device memory (" +
                                 std::string(std::strerror(errno)) + ")");
        }
    }
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
    state_.store(ClientState::ready, std::memory_order_release);
    return CUDA_SUCCESS;
}

}  // namespace gpuferry
