// Events: recording, waiting, timing.
#include "device/event.h"

#include "device/error.h"
#include "device/stream.h"

namespace softgpu {

void Marker::complete() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    time_ = Clock::now();
    changed_.notify_all();
}

void Marker::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
}

bool Marker::done() const {
    const std::lock_guard lock(mutex_);
    return done_;
}

Marker::Clock::time_point Marker::time() const {
    const std::lock_guard lock(mutex_);
    return time_;
}

Event::Event(std::shared_ptr<Context> context, std::shared_ptr<SharedEvent> shared)
    : context_(std::move(context)), flags_(shared->flags()), shared_(std::move(shared)) {}

MarkerPtr Event::begin_recording() {
    auto marker = std::make_shared<Marker>();
    const std::lock_guard lock(mutex_);
    latest_ = marker;
    captured_.reset();
    if (shared_) marker->shared_turn = shared_->begin();
    return marker;
}

void Event::finish_recording(const MarkerPtr& marker) {
    marker->complete();
    const std::lock_guard lock(mutex_);
    if (shared_ && marker->shared_turn) shared_->finish(marker->shared_turn);
}

void Event::record(Stream& stream) {
    auto self = shared_from_this();
    auto marker = begin_recording();
    stream.enqueue({[self, marker] { self->finish_recording(marker); }, true});
}

void Event::make_wait(Stream& stream) {
    std::shared_ptr<SharedEvent> shared;
    MarkerPtr marker;
    uint64_t turn = 0;
    {
        const std::lock_guard lock(mutex_);
        marker = latest_;
        shared = shared_;
        if (shared) turn = shared->latest();
    }
    if (shared) {
        if (shared->done(turn)) return;
        auto* context = &stream.context();
        stream.enqueue(
            {[shared, turn, context] { shared->wait(turn, [&] { return context->cancel_flag().load(); }); }, true});
    } else if (marker && !marker->done()) {
        stream.enqueue({[marker] { marker->wait(); }, true});
    }
}

void Event::wait_latest() {
    std::shared_ptr<SharedEvent> shared;
    MarkerPtr marker;
    {
        const std::lock_guard lock(mutex_);
        marker = latest_;
        shared = shared_;
    }
    if (shared) {
        shared->wait(shared->latest(), [&] { return context_->cancel_flag().load(); });
    } else if (marker) {
        marker->wait();
    }
}

bool Event::done() const {
    const std::lock_guard lock(mutex_);
    if (shared_) return shared_->done(shared_->latest());
    return !latest_ || latest_->done();
}

MarkerPtr Event::latest() const {
    const std::lock_guard lock(mutex_);
    return latest_;
}

std::shared_ptr<SharedEvent> Event::share() {
    const std::lock_guard lock(mutex_);
    if (!shared_ && flags_ & CU_EVENT_INTERPROCESS) {
        shared_ = SharedEvent::create(flags_);
        if (latest_ && !latest_->done()) {
            // What is being recorded becomes the first shared turn.
            latest_->shared_turn = shared_->begin();
        }
    }
    return shared_;
}

void Event::set_captured(std::shared_ptr<Captured> captured) {
    const std::lock_guard lock(mutex_);
    captured_ = std::move(captured);
}

std::shared_ptr<Event::Captured> Event::captured() const {
    const std::lock_guard lock(mutex_);
    return captured_;
}

}  // namespace softgpu
