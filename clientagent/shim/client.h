// The client's side: its sessions with the GPU servers of the lease, and what those told at the start.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_api.h"
#include "handles.h"
#include "link.h"
#include "settings.h"

namespace gpuferry {

struct Context;

// Addresses of a server's window, in bytes.
struct Window {
    uint64_t base = 0, size = 0;
};

// One GPU server of the lease, and this program's session with it.
struct Server {
    unsigned number = 0;  // in the lease's order; handles carry it
    std::string address;
    Link* link = nullptr;
    uint64_t window_base = 0, window_size = 0, granularity = 0;  // bytes: where its device memory lies
    size_t first_device = 0, devices = 0;                        // among those of the lease
    Context* primary = nullptr;  // of its first GPU: stands in where another server's context is current
};

// One GPU of the lease, as the snapshot at session start describes it.
struct Device {
    Server* server = nullptr;
    CUdevice local = 0;  // its number on its server
    size_t place = 0;    // its number in the lease
    std::string name, bus_id;
    CUuuid uuid{}, uuid_v2{};
    uint64_t total = 0;  // bytes: the slice
    uint64_t limit = 0;  // bytes that allocations may take
    CUdevprop properties{};
    std::map<int, int> attributes;
    std::vector<int> can_access;  // by number on the server
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
    uint64_t host_base = 0, host_size = 0;  // for host memory that has a twin on a server, the same on all of them
    std::vector<Device> devices;            // by ordinal
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
    [[nodiscard]] const std::vector<std::unique_ptr<Server>>& servers() const { return servers_; }
    // Where a call goes that no object, device or context sends anywhere: to the first GPU that the program sees.
    [[nodiscard]] Server& home() const { return *home_; }
    [[nodiscard]] bool has_several_servers() const { return servers_.size() > 1; }
    // Of a handle that is alive.
    [[nodiscard]] Server& server_of(Handle handle) const {
        const unsigned number = gpuferry::server_of(handle);
        return number < servers_.size() ? *servers_[number] : home();
    }
    [[nodiscard]] const Snapshot& snapshot() const { return snapshot_; }
    [[nodiscard]] const Device* device(CUdevice ordinal) const {
        return ordinal < 0 || static_cast<size_t>(ordinal) >= snapshot_.devices.size() ? nullptr
                                                                                       : &snapshot_.devices[ordinal];
    }

    // The program's number of a GPU by its number in the lease, which is the same for all processes of it; -1 for one
    // that this program does not see.
    [[nodiscard]] CUdevice ordinal_at(uint64_t place) const;
    // The program's number of a GPU that its server numbers `local`.
    [[nodiscard]] CUdevice ordinal_of(const Server& server, int local) const;

  private:
    void open();
    void open_together(const std::vector<ServerSettings>& all, std::vector<std::unique_ptr<Reply>>& replies);
    void open_session(Server& server, const ServerSettings& settings, const std::vector<Window>& taken,
                      std::unique_ptr<Reply>& reply);
    [[nodiscard]] std::vector<Window> windows_before(size_t number) const;
    static void check_answer(const Server& server, const Reply& reply);
    void hide_devices();
    void read_snapshot(Server& server, std::span<const char> payload);
    void read_device(Server& server, Decoder& fields, uint64_t devices);

    std::atomic<ClientState> state_ = ClientState::not_initialised;
    std::mutex connecting_;
    bool tried_ = false;
    bool counted_together_ = false;  // with the lease's other processes on this machine
    CUresult failure_ = CUDA_SUCCESS;
    std::vector<std::unique_ptr<Server>> servers_;
    Server* home_ = nullptr;
    Snapshot snapshot_;
};

Client& client();

}  // namespace gpuferry
