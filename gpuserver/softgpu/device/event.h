// Events: points in the work of streams that others can wait for and time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "device/context.h"
#include "device/handle.h"
#include "device/shared_event.h"

namespace softgpu {

class Capture;
class Stream;

// One recording of an event: done once, never undone.
class Marker {
  public:
    using Clock = std::chrono::steady_clock;
    void complete();
    void wait();
    [[nodiscard]] bool done() const;
    // When it was completed; only once done.
    [[nodiscard]] Clock::time_point time() const;
    uint64_t shared_turn = 0;  // its number in the event's shared page; guarded by the event

  private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    Clock::time_point time_;
};
using MarkerPtr = std::shared_ptr<Marker>;

class Event final : public Object, public std::enable_shared_from_this<Event> {
  public:
    using Handle = CUevent;
    static constexpr Kind kind = Kind::event;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    Event(std::shared_ptr<Context> context, unsigned flags) : context_(std::move(context)), flags_(flags) {}
    // An event of another process.
    Event(std::shared_ptr<Context> context, std::shared_ptr<SharedEvent> shared);

    [[nodiscard]] Context& context() const { return *context_; }
    [[nodiscard]] unsigned flags() const { return flags_; }
    [[nodiscard]] bool timed() const { return !(flags_ & CU_EVENT_DISABLE_TIMING); }

    // Records it in a stream; what was recorded before is forgotten.
    void record(Stream& stream);
    // A marker for a recording whose completion the caller sees to (a graph's node).
    MarkerPtr begin_recording();
    void finish_recording(const MarkerPtr& marker);
    // Makes a stream wait for the latest recording (none: nothing to wait for).
    void make_wait(Stream& stream);
    // Waits on the calling thread for the latest recording.
    void wait_latest();
    [[nodiscard]] bool done() const;
    [[nodiscard]] MarkerPtr latest() const;
    // The shared page behind it; made at the first call. Null unless it is an interprocess event.
    std::shared_ptr<SharedEvent> share();

    // Set while its latest recording was captured, not run.
    struct Captured {
        std::weak_ptr<Capture> capture;
        std::vector<uint64_t> nodes;  // handles of the nodes to wait for
    };
    void set_captured(std::shared_ptr<Captured> captured);
    [[nodiscard]] std::shared_ptr<Captured> captured() const;

  private:
    const std::shared_ptr<Context> context_;
    const unsigned flags_;
    mutable std::mutex mutex_;
    MarkerPtr latest_;
    std::shared_ptr<SharedEvent> shared_;
    std::shared_ptr<Captured> captured_;
};

}  // namespace softgpu
