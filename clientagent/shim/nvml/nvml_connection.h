// This process's connections to the workers that read NVML on the lease's GPU servers, and what they said at the start.
//
// Calls are rare and each waits for its answer: one lock, one request on the way at a time.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "nvml_names.h"
#include "nvml_ops.h"
#include "settings.h"
#include "slice_account.h"
#include "transport.h"

namespace gpuferry::nvml {

// One GPU of the lease.
struct Device {
    std::string uuid, bus_id, serial;
    uint64_t slice = 0;  // bytes, 0 for the whole GPU
    size_t server = 0;   // in the lease's order
    unsigned local = 0;  // its number there
};

class Session {
  public:
    // nvmlInit and nvmlShutdown count; the connection stays, so that a lease without programs keeps its GPUs.
    nvmlReturn_t open();
    nvmlReturn_t close();
    [[nodiscard]] bool is_open() const { return opened_ > 0; }
    [[nodiscard]] const std::vector<Device>& devices() const { return devices_; }
    // Sends a request to a server and waits. What went wrong with the connection is said on stderr, once.
    nvmlReturn_t ask(size_t server, NvmlOp op, std::span<const char> payload, std::vector<char>& answer);
    // The same, where the first answer is the only one.
    nvmlReturn_t ask_once(size_t server, NvmlOp op, std::span<const char> payload, std::vector<char>& answer);
    // Memory and processes of the lease on this machine; false while no process uses CUDA.
    bool with_account(const std::function<void(SliceAccount&)>& read);

  private:
    struct Channel {
        ServerSettings server;
        std::unique_ptr<Connection> connection;
        bool lost = false;
        uint64_t number = 0;
    };

    nvmlReturn_t connect();
    nvmlReturn_t open_channel(const ServerSettings& server);
    void read_snapshot(std::span<const char> payload);
    static nvmlReturn_t exchange(Channel& channel, NvmlOp op, std::span<const char> payload, std::vector<char>& answer);

    std::mutex lock_;
    std::atomic<int> opened_ = 0;
    int process_ = 0;                // that made the connection: a forked child makes its own
    std::vector<Channel> channels_;  // by server
    std::vector<Device> devices_;
    std::map<std::vector<char>, std::pair<nvmlReturn_t, std::vector<char>>> kept_;
    SliceAccount account_;
};

Session& session();

// Handles are numbers, never followed as pointers. Null for what is no handle of ours.
const Device* find_device(nvmlDevice_t handle, unsigned& index);
nvmlDevice_t handle_of_index(unsigned index);

// A function that is not forwarded. With GPUFERRY_TRACE it is named once: monitoring tools ask for everything.
nvmlReturn_t not_supported(const char* function);

}  // namespace gpuferry::nvml
