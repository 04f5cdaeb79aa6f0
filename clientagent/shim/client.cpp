#include "client.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "contexts.h"
#include "deliveries.h"
#include "device_memory.h"
#include "entry.h"
#include "handshake.h"
#include "settings.h"

namespace gpuferry {
namespace {

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

std::atomic<bool> session_is_open = false;

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
    const std::string server = setting("GPUFERRY_SERVER");
    const int descriptor = dial(ConnectionPurpose::session);
    link_ = new Link(descriptor, deliver, [](const char* reason) {
        // Where the session was not open yet, whoever opens it says what went wrong.
        if (session_is_open) {
            say("the connection to GPU server " + setting("GPUFERRY_SERVER") + " is lost: " + reason +
                ". Every CUDA call fails from now on");
        }
        device_memory().account().surrender();
    });
    Bytes wishes;
    Encoder(wishes).put<uint64_t>(device_memory().account().open(setting("GPUFERRY_LEASE")));
    Reply reply;
    if (!link_->ask(Op::open_session, 0, wishes.view(), reply)) {
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
    session_is_open = true;
    reserve_window();
    device_memory().open(snapshot_);
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
