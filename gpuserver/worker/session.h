// One client process's session: the ordered stream of its requests, and all that it owns on this GPU server.
//
// One dispatcher thread (the one that calls `serve`) reads and executes requests in their order. Calls that must wait
// for the GPU are handed to waiter threads, which reply when the wait is over.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "account.h"
#include "device_output.h"
#include "host_functions.h"
#include "objects.h"
#include "peer_access.h"
#include "quota.h"
#include "reaper.h"
#include "request.h"
#include "shared_memory.h"
#include "staging.h"
#include "transport.h"
#include "twins.h"
#include "waiters.h"
#include "wire.h"

namespace gpuferry::worker {

// One GPU as this session may use it.
struct SessionDevice {
    CUdevice device = 0;
    CUcontext primary = nullptr;  // retained when first used
    bool retained_by_client = false;
};

// A device-to-host copy that was posted, waiting for a reply that makes it visible.
struct PendingCopy {
    uint64_t number = 0;  // of the request that asked for it
    uint64_t offset = 0;
    Staged staged;
};

class Session {
  public:
    // `memory`: the slice of each GPU in bytes, 0 for the whole GPU, as for those beyond its end. Raises
    // std::runtime_error.
    Session(int descriptor, std::vector<uint64_t> memory, Account& account);

    // Serves until the client is gone. Never returns: the process ends, and with it all that the session owned.
    [[noreturn]] void serve();
    // Ends the session by the worker's own decision, saying why.
    [[noreturn]] void end(const std::string& reason);

    CUresult find_context(Handle handle, CUcontext& real);
    // Makes the context current in the dispatcher thread.
    CUresult make_current(Handle handle);
    [[nodiscard]] CUcontext current() const { return current_; }
    // The place in `devices` of the current context's GPU.
    [[nodiscard]] size_t device_of_current() const;

    // Reads the next `size` bytes of the request's bulk data, wherever they are now.
    void take_bulk(void* place, size_t size);

    // Waits until the GPU has everything back that was freed; false while it may wait for the client itself.
    bool settle_frees();

    // Before what uploads fill goes at once. Not while an upload may be behind a host function, or behind a word that
    // the program writes: this dispatcher could not hear of either.
    void finish_uploads();

    // Whether the GPU can have no work of this session's: what is freed then is given back at once, so that using it
    // fails as it does natively.
    bool is_idle();
    // All work that requests up to this one asked for is complete. From any thread.
    void note_idle(uint64_t number);

    // A reply, from any thread: copies that have become visible go ahead of it; with `visible`, the reply of a call
    // that makes all device work visible, so do the device's output and its changes of host memory.
    void reply(uint64_t number, CUresult result, std::span<const char> payload, std::span<const char> bulk = {},
               bool visible = false);
    // Remembers the first error of posted calls; the next reply reports it. From any thread.
    void latch(CUresult error, Op op);
    // A device-to-host copy whose bytes go to the client with the first reply after it is complete.
    void deliver_later(PendingCopy copy);
    // Tells the client that a host function's turn has come.
    void deliver_turn(uint64_t id);
    // Replies with the bytes of a staged copy once it is complete: at once, or from a waiter thread.
    void reply_when_staged(uint64_t number, std::shared_ptr<Staged> staged);
    // Replies when `wait` returns, on a waiter thread with the dispatcher's current context current.
    void reply_after(uint64_t number, std::function<CUresult()> wait);

    Objects objects;
    std::vector<SessionDevice> devices;
    Account& account;
    Quota quota{account, [this] { return settle_frees(); }};
    Staging staging;
    Waiters waiters;
    Reaper reaper;
    std::map<uint64_t, Mapping> mappings;  // by address: the client's device memory
    PeerAccess peers;
    SharedMemory shared_memory;
    // Whether the stretch lies in the window, on its granules, and touches nothing that is mapped.
    [[nodiscard]] bool is_free(uint64_t address, uint64_t size) const;
    Twins twins;
    HostFunctions host_functions{*this};
    DeviceOutput output, errors;
    uint64_t window_base = 0, window_size = 0, granularity = 0;
    uint64_t host_base = 0, host_size = 0;  // where the client may have twins of its host memory
    std::vector<uint64_t> device_memory;    // the slices' sizes, 0 for the whole GPU
    [[nodiscard]] uint64_t memory_of(size_t index) const {
        return index < device_memory.size() ? device_memory[index] : 0;
    }

  private:
    [[noreturn]] void watch_peer();
    bool fill(size_t needed);
    void dispatch(const RequestHeader& header, std::span<const char> payload);
    void send_visible_copies();
    void send_delivery(Delivery kind, std::span<const char> fields, std::span<const char> bytes);
    void send_device_changes();

    Connection connection_;
    Handle current_handle_ = 0;
    CUcontext current_ = nullptr;

    [[nodiscard]] bool streams_are_idle() const;

    uint64_t last_work_ = 0;                 // the last request that may have given a GPU work
    uint64_t last_destroyed_stream_ = 0;     // the last request that ended a stream
    std::atomic<uint64_t> idle_behind_ = 0;  // requests up to this one keep no GPU busy

    std::vector<char> input_;
    size_t start_ = 0, end_ = 0;
    size_t bulk_left_ = 0;  // of the request being served, not yet in `input_` or still there

    std::mutex replying_;  // guards sending, the latched error and the copies waiting for delivery
    CUresult latched_ = CUDA_SUCCESS;
    Op latched_op_ = Op::none;
    std::deque<PendingCopy> copies_;
};

}  // namespace gpuferry::worker
