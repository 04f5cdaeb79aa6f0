// Streams: queues of operations that run in order, each stream on a thread of its own while it has work.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "device/context.h"
#include "device/handle.h"

namespace softgpu {

class Capture;

// While one lives, a NULL stream of this thread's calls means the thread's own stream: the `_ptds`/`_ptsz` entry
// points open one around the base function.
class PerThreadStreamScope {
  public:
    PerThreadStreamScope() noexcept;
    ~PerThreadStreamScope();
    PerThreadStreamScope(const PerThreadStreamScope&) = delete;
    PerThreadStreamScope& operator=(const PerThreadStreamScope&) = delete;
    static bool active() noexcept;

  private:
    bool before_;
};

// Something to do in a stream's order.
struct Operation {
    std::function<void()> run;
    bool even_failed = false;  // runs even when the context has failed (marking events done)
    bool on_worker = false;    // never on the calling thread (host functions)
};

class Stream final : public Object, public std::enable_shared_from_this<Stream> {
  public:
    using Handle = CUstream;
    static constexpr Kind kind = Kind::stream;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;
    enum class Type { legacy, per_thread, created };

    Stream(std::shared_ptr<Context> context, Type type, unsigned flags, int priority);
    ~Stream() override;

    [[nodiscard]] Context& context() const { return *context_; }
    [[nodiscard]] Type type() const { return type_; }
    [[nodiscard]] unsigned flags() const { return flags_; }
    [[nodiscard]] int priority() const { return priority_; }
    [[nodiscard]] uint64_t id() const { return id_; }
    [[nodiscard]] bool blocking() const { return !(flags_ & CU_STREAM_NON_BLOCKING); }

    // Queues an operation and returns its ticket: tickets of a stream count up from 1.
    uint64_t enqueue(Operation operation);
    // Runs an operation in the stream's order and waits for it: on the calling thread when the stream is idle.
    void run(Operation operation);
    // Waits until the operation with this ticket is done.
    void wait(uint64_t ticket);
    // Waits for everything issued so far.
    void drain();
    [[nodiscard]] bool idle() const;

    // --- capture (device/capture.h); guarded by the capture's own lock
    [[nodiscard]] std::shared_ptr<Capture> capture() const;
    void set_capture(std::shared_ptr<Capture> capture);

    // --- attributes
    std::atomic<int> synchronization_policy{CU_SYNC_POLICY_AUTO};
    std::atomic<int> mem_sync_domain{0};
    CUaccessPolicyWindow access_policy{};  // guarded by attribute_mutex
    std::mutex attribute_mutex;

  private:
    struct Dependency {
        std::shared_ptr<Stream> stream;
        uint64_t ticket;
    };
    struct Queued {
        Operation operation;
        std::vector<Dependency> after;
        uint64_t ticket = 0;
    };
    uint64_t issue(Operation operation, bool may_run_here);
    std::vector<Dependency> dependencies();
    void perform(Operation& operation) noexcept;
    void work();
    void complete();

    const std::shared_ptr<Context> context_;
    const Type type_;
    const unsigned flags_;
    const int priority_;
    const uint64_t id_;

    mutable std::mutex mutex_;  // what follows
    std::condition_variable changed_;
    std::deque<Queued> queue_;
    uint64_t issued_ = 0, completed_ = 0;
    bool working_ = false;
    std::shared_ptr<Capture> capture_;
};

// The stream that a program's handle means in the current context: NULL, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD or a
// created one. Throws INVALID_CONTEXT, INVALID_HANDLE, or the sticky error of its context.
std::shared_ptr<Stream> require_stream(CUstream handle);
// The same, but a failed context is fine.
std::shared_ptr<Stream> require_stream_even_failed(CUstream handle);

// While one lives, the calling thread is running a host function of a program.
class HostFunctionScope {
  public:
    HostFunctionScope() noexcept;
    ~HostFunctionScope();
    HostFunctionScope(const HostFunctionScope&) = delete;
    HostFunctionScope& operator=(const HostFunctionScope&) = delete;
};
bool inside_host_function() noexcept;

// Stops kernels in flight and waits a moment for the streams' threads: at exit of the process.
void stop_streams();

}  // namespace softgpu
