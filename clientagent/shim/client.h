// The client's side of the session: its state, its connection, and what the server told at the start.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "cuda_api.h"
#include "handles.h"
#include "link.h"
#include "settings.h"

namespace gpuferry {

// One GPU of the lease, as the snapshot at session start describes it.
struct Device {
    std::string name, bus_id;
    CUuuid uuid{}, uuid_v2{};
    uint64_t total = 0;  // bytes: the slice
    uint64_t limit = 0;  // bytes that allocations may take
    CUdevprop properties{};
    std::map<int, int> attributes;
    std::vector<int> can_access;  // by ordinal
    Handle primary = 0;

    [[nodiscard]] int attribute(int which) const {
        const auto found = attributes.find(which);
        return found == attributes.end() ? 0 : found->second;
    }
};

struct ErrorText {
    std::string name, text;
};

struct Snapshot {
    int driver_version = 0;
    uint64_t window_base = 0, window_size = 0, granularity = 0;  // bytes
    uint64_t host_base = 0, host_size = 0;                       // for host memory that has a twin on the server
    std::vector<Device> devices;
    std::map<int, ErrorText> errors;
};

enum class ClientState : uint32_t {
    not_initialised = 0,
    ready = 1,
    forked = 2,  // a child of the process that owns the session
};

class Client {
  public:
    // Connects and opens the session, once. What went wrong is said on stderr, once, and stays.
    CUresult connect();
    CUresult initialise();  // cuInit

    [[nodiscard]] ClientState state() const { return state_.load(std::memory_order_acquire); }
    void set_forked() { state_.store(ClientState::forked, std::memory_order_release); }
    [[nodiscard]] Link* link() const { return link_; }
    [[nodiscard]] const Snapshot& snapshot() const { return snapshot_; }
    [[nodiscard]] const Device* device(CUdevice ordinal) const {
        return ordinal < 0 || static_cast<size_t>(ordinal) >= snapshot_.devices.size() ? nullptr
                                                                                       : &snapshot_.devices[ordinal];
    }

  private:
    void open();
    void read_snapshot(std::span<const char> payload);
    void reserve_window() const;

    std::atomic<ClientState> state_ = ClientState::not_initialised;
    std::mutex connecting_;
    bool tried_ = false;
    CUresult failure_ = CUDA_SUCCESS;
    Link* link_ = nullptr;
    Snapshot snapshot_;
};

Client& client();

}  // namespace gpuferry
