// Streams and the threads that work them off.
#include "device/stream.h"

#include <chrono>
#include <system_error>
#include <thread>

#include "device/capture.h"
#include "device/error.h"
#include "device/thread_state.h"
#include "log.h"

namespace softgpu {
namespace {

// A stream's thread ends after this long without work; the next operation starts another.
constexpr auto idle_limit = std::chrono::milliseconds(200);

thread_local bool per_thread_default = false;
thread_local bool running_host_function = false;

std::atomic<bool> process_exits{false};

uint64_t next_stream_id() {
    static std::atomic<uint64_t> next{1};
    return next.fetch_add(1);
}

}  // namespace

PerThreadStreamScope::PerThreadStreamScope() noexcept : before_(per_thread_default) {
    per_thread_default = true;
}
PerThreadStreamScope::~PerThreadStreamScope() {
    per_thread_default = before_;
}
bool PerThreadStreamScope::active() noexcept {
    return per_thread_default;
}

HostFunctionScope::HostFunctionScope() noexcept {
    running_host_function = true;
}
HostFunctionScope::~HostFunctionScope() {
    running_host_function = false;
}
bool inside_host_function() noexcept {
    return running_host_function;
}

Stream::Stream(std::shared_ptr<Context> context, Type type, unsigned flags, int priority)
    : context_(std::move(context)), type_(type), flags_(flags), priority_(priority), id_(next_stream_id()) {}

Stream::~Stream() = default;

// Needs the context's issue_mutex.
std::vector<Stream::Dependency> Stream::dependencies() {
    std::vector<Dependency> after;
    const auto add = [&](const std::shared_ptr<Stream>& other) {
        const std::lock_guard lock(other->mutex_);
        if (other->completed_ < other->issued_) after.push_back({other, other->issued_});
    };
    if (type_ == Type::legacy) {
        for (const auto& other : context_->streams()) {
            if (other.get() != this && other->blocking()) add(other);
        }
    } else {
        add(context_->legacy_stream());
    }
    return after;
}

uint64_t Stream::issue(Operation operation, bool may_run_here) {
    if (process_exits.load()) throw DriverError(CUDA_ERROR_DEINITIALIZED, "the process exits");
    std::unique_lock<std::mutex> order;
    std::vector<Dependency> after;
    if (blocking()) {
        order = std::unique_lock(context_->issue_mutex);
        after = dependencies();
    }
    std::unique_lock lock(mutex_);
    const uint64_t ticket = ++issued_;
    if (may_run_here && after.empty() && completed_ + 1 == ticket && !operation.on_worker) {
        lock.unlock();
        if (order) order.unlock();
        perform(operation);
        operation = {};
        complete();
        return ticket;
    }
    queue_.push_back({std::move(operation), std::move(after), ticket});
    if (working_) {
        changed_.notify_all();
        return ticket;
    }
    working_ = true;
    try {
        std::thread([self = shared_from_this()] { self->work(); }).detach();
    } catch (const std::system_error& error) {
        working_ = false;
        queue_.pop_back();
        --issued_;
        throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::string("cannot start a stream's thread: ") + error.what());
    }
    return ticket;
}

uint64_t Stream::enqueue(Operation operation) {
    return issue(std::move(operation), false);
}

void Stream::run(Operation operation) {
    wait(issue(std::move(operation), true));
}

void Stream::perform(Operation& operation) noexcept {
    if (context_->failure() != CUDA_SUCCESS && !operation.even_failed) return;
    try {
        operation.run();
    } catch (const DriverError& error) {
        context_->fail(error.code, error.what());
    } catch (const std::exception& error) {
        context_->fail(CUDA_ERROR_LAUNCH_FAILED, error.what());
    }
}

void Stream::complete() {
    const std::lock_guard lock(mutex_);
    ++completed_;
    changed_.notify_all();
}

void Stream::work() {
    std::unique_lock lock(mutex_);
    // The operation at the front may still have to wait for one that runs on a calling thread.
    const auto ready = [&] { return !queue_.empty() && completed_ + 1 == queue_.front().ticket; };
    for (;;) {
        if (!changed_.wait_for(lock, idle_limit, ready)) {
            if (!queue_.empty()) continue;
            working_ = false;
            return;
        }
        Queued next = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        for (const Dependency& dependency : next.after) dependency.stream->wait(dependency.ticket);
        perform(next.operation);
        next = {};  // what it holds goes before anybody learns that it is done
        lock.lock();
        ++completed_;
        changed_.notify_all();
    }
}

void Stream::wait(uint64_t ticket) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return completed_ >= ticket; });
}

void Stream::drain() {
    std::unique_lock lock(mutex_);
    const uint64_t last = issued_;
    changed_.wait(lock, [&] { return completed_ >= last; });
}

bool Stream::idle() const {
    const std::lock_guard lock(mutex_);
    return completed_ == issued_;
}

std::shared_ptr<Capture> Stream::capture() const {
    const std::lock_guard lock(mutex_);
    return capture_;
}

void Stream::set_capture(std::shared_ptr<Capture> capture) {
    const std::lock_guard lock(mutex_);
    capture_.swap(capture);
}

std::shared_ptr<Stream> require_stream_even_failed(CUstream handle) {
    if (handle == nullptr) handle = PerThreadStreamScope::active() ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
    if (handle == CU_STREAM_LEGACY) return Context::require_current_even_failed().legacy_stream();
    if (handle == CU_STREAM_PER_THREAD) return Context::require_current_even_failed().thread_stream();
    auto stream = require<Stream>(handle);
    if (!stream->context().alive()) throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the stream's context is gone");
    return stream;
}

std::shared_ptr<Stream> require_stream(CUstream handle) {
    auto stream = require_stream_even_failed(handle);
    stream->context().require_unfailed();
    return stream;
}

void stop_streams() {
    process_exits.store(true);
    for (const auto& context : living_contexts()) {
        context->cancel();
        context->fail(CUDA_ERROR_DEINITIALIZED, "the process exits");
    }
    // Idle threads wait on; only those that work are given time to stop.
    for (int i = 0; i < 200; ++i) {
        bool busy = false;
        for (const auto& context : living_contexts()) {
            for (const auto& stream : context->streams()) busy = busy || !stream->idle();
        }
        if (!busy) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

}  // namespace softgpu
