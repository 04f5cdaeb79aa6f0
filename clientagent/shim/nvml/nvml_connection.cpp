#include "nvml_connection.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>

#include "wire.h"

namespace gpuferry::nvml {
namespace {

constexpr uintptr_t handle_mark = 0x6e76'6d6c'0000'0000;  // no address of a program

}  // namespace

Session& session() {
    static auto* only = new Session;
    return *only;
}

nvmlReturn_t Session::open() {
    const std::lock_guard held(lock_);
    if (const nvmlReturn_t failure = connect()) return failure;
    ++opened_;
    return NVML_SUCCESS;
}

nvmlReturn_t Session::close() {
    const std::lock_guard held(lock_);
    if (opened_ == 0) return NVML_ERROR_UNINITIALIZED;
    --opened_;
    return NVML_SUCCESS;
}

// The caller holds the lock.
nvmlReturn_t Session::connect() {
    if (!channels_.empty() && process_ == getpid()) {
        const bool lost = std::all_of(channels_.begin(), channels_.end(), [](const auto& each) { return each.lost; });
        return lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
    }
    channels_.clear();
    devices_.clear();
    process_ = getpid();
    nvmlReturn_t failure = NVML_SUCCESS;
    try {
        for (const ServerSettings& server : server_settings()) {
            failure = open_channel(server);
            if (failure) break;
        }
    } catch (const std::exception& error) {
        say(error.what());
        failure = NVML_ERROR_DRIVER_NOT_LOADED;
    }
    if (failure) channels_.clear();
    return failure;
}

// The caller holds the lock. Raises HandshakeError, TransportError.
nvmlReturn_t Session::open_channel(const ServerSettings& server) {
    Channel& channel = channels_.emplace_back();
    channel.server = server;
    channel.connection = std::make_unique<Connection>(dial(server, ConnectionPurpose::nvml));
    std::vector<char> answer;
    if (exchange(channel, NvmlOp::open, {}, answer)) {
        const std::string_view why = Decoder(answer).take_text();
        if (!why.empty()) say("GPU server " + server.address + ": " + std::string(why));
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    read_snapshot(answer);
    return NVML_SUCCESS;
}

// Of the channel that was opened last.
void Session::read_snapshot(std::span<const char> payload) {
    Decoder fields(payload);
    const auto count = fields.take<uint64_t>();
    for (uint64_t i = 0; fields.good() && i < count; ++i) {
        Device device;
        device.slice = fields.take<uint64_t>();
        device.uuid = fields.take_text();
        device.bus_id = program_bus_id(std::string(fields.take_text()), channels_.size() - 1);
        device.serial = fields.take_text();
        device.server = channels_.size() - 1;
        device.local = static_cast<unsigned>(i);
        devices_.push_back(std::move(device));
    }
    if (!fields.good()) throw TransportError("the GPU server's first answer about its GPUs is incomplete");
}

// The caller holds the lock. Raises TransportError.
nvmlReturn_t Session::exchange(Channel& channel, NvmlOp op, std::span<const char> payload, std::vector<char>& answer) {
    RequestHeader header;
    header.bytes = static_cast<uint32_t>(payload.size());
    header.op = static_cast<uint16_t>(op);
    header.flags = request_awaited | request_blocks;
    header.number = ++channel.number;
    iovec parts[2] = {{&header, sizeof header}, {const_cast<char*>(payload.data()), payload.size()}};
    channel.connection->send(parts, 2);
    ReplyHeader reply;
    if (!channel.connection->receive(&reply, sizeof reply)) throw TransportError("the server closed the connection");
    if (reply.number != channel.number || reply.bytes > largest_payload) {
        throw TransportError("the server answered nonsense");
    }
    answer.resize(reply.bytes);
    if (reply.bytes && !channel.connection->receive(answer.data(), answer.size())) {
        throw TransportError("the server closed the connection");
    }
    return static_cast<nvmlReturn_t>(reply.result);
}

nvmlReturn_t Session::ask(size_t server, NvmlOp op, std::span<const char> payload, std::vector<char>& answer) {
    const std::lock_guard held(lock_);
    if (const nvmlReturn_t failure = connect()) return failure;
    Channel& channel = channels_[server];
    if (channel.lost) return NVML_ERROR_GPU_IS_LOST;
    try {
        return exchange(channel, op, payload, answer);
    } catch (const TransportError& error) {
        channel.lost = true;
        say("the connection to GPU server " + channel.server.address + " is lost: " + error.what() +
            (channels_.size() > 1 ? ". NVML answers nothing about its GPUs from now on"
                                  : ". NVML answers nothing from now on"));
        return NVML_ERROR_GPU_IS_LOST;
    }
}

nvmlReturn_t Session::ask_once(size_t server, NvmlOp op, std::span<const char> payload, std::vector<char>& answer) {
    std::vector<char> question(sizeof server + sizeof op + payload.size());
    std::memcpy(question.data(), &server, sizeof server);
    std::memcpy(question.data() + sizeof server, &op, sizeof op);
    if (!payload.empty()) std::memcpy(question.data() + sizeof server + sizeof op, payload.data(), payload.size());
    {
        const std::lock_guard held(lock_);
        if (const auto found = kept_.find(question); found != kept_.end()) {
            answer = found->second.second;
            return found->second.first;
        }
    }
    const nvmlReturn_t result = ask(server, op, payload, answer);
    if (result == NVML_SUCCESS || result == NVML_ERROR_NOT_SUPPORTED) {
        const std::lock_guard held(lock_);
        kept_.emplace(std::move(question), std::pair(result, answer));
    }
    return result;
}

bool Session::with_account(const std::function<void(SliceAccount&)>& read) {
    const std::lock_guard held(lock_);
    if (!account_.watch(setting("GPUFERRY_LEASE"))) return false;
    read(account_);
    return true;
}

const Device* find_device(nvmlDevice_t handle, unsigned& index) {
    const auto number = reinterpret_cast<uintptr_t>(handle) - handle_mark;
    const auto& devices = session().devices();
    if (number == 0 || number > devices.size()) return nullptr;
    index = static_cast<unsigned>(number - 1);
    return &devices[index];
}

nvmlDevice_t handle_of_index(unsigned index) {
    return reinterpret_cast<nvmlDevice_t>(handle_mark + index + 1);
}

nvmlReturn_t not_supported(const char* function) {
    if (!session().is_open()) return NVML_ERROR_UNINITIALIZED;
    static std::mutex lock;
    static auto* said = new std::set<std::string>;
    const std::string wanted = setting("GPUFERRY_TRACE");
    if (!wanted.empty() && wanted != "0") {
        const std::lock_guard held(lock);
        if (said->insert(function).second) say(std::string(function) + " is not forwarded: NVML_ERROR_NOT_SUPPORTED");
    }
    return NVML_ERROR_NOT_SUPPORTED;
}

}  // namespace gpuferry::nvml

extern "C" nvmlReturn_t nvmlInternalGetExportTable(const void**, const void*) {
    return NVML_ERROR_NOT_FOUND;
}
