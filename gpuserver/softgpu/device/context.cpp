// Contexts: the calling thread's stack, their life, and what ends with them.
#include "device/context.h"

#include <pthread.h>

#include <algorithm>
#include <cstdio>

#include "device/capture.h"
#include "device/error.h"
#include "device/release.h"
#include "device/stream.h"
#include "device/texture.h"
#include "device/thread_state.h"
#include "log.h"

namespace softgpu {
namespace {

constexpr size_t default_heap_bytes = size_t{8} << 20;
constexpr size_t default_print_bytes = size_t{1} << 20;

struct AllContexts {
    std::mutex mutex;
    std::vector<std::weak_ptr<Context>> contexts;
};

AllContexts& all_contexts() {
    static auto& all = *new AllContexts;
    return all;
}

uint64_t next_context_id() {
    static std::atomic<uint64_t> next{1};
    return next.fetch_add(1);
}

Context& check_usable(const std::shared_ptr<Context>& context) {
    if (!context) throw DriverError(CUDA_ERROR_INVALID_CONTEXT, "the thread has no current context");
    if (!context->alive()) throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context was destroyed");
    return *context;
}

}  // namespace

Range ContextMemory::find(uint64_t address) const {
    return memory_map().accessible(address, context_);
}
std::shared_ptr<const Texture> ContextMemory::texture(uint64_t handle) const {
    return texture_behind(handle);
}
uint64_t ContextMemory::generation() const {
    return memory_map().generation();
}

Context::Context(Device& device, bool primary) : device_(device), primary_(primary), memory_view_(*this) {
    reset_limits();
}

Context::~Context() = default;

void Context::reset_limits() {
    for (auto& limit : limits) limit.store(0);
    limits[CU_LIMIT_STACK_SIZE] = 1024;
    limits[CU_LIMIT_PRINTF_FIFO_SIZE] = default_print_bytes;
    limits[CU_LIMIT_MALLOC_HEAP_SIZE] = default_heap_bytes;
    limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
    limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
    limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
}

// --- the stack

std::shared_ptr<Context> Context::current() {
    const auto& stack = thread_state().contexts;
    return stack.empty() ? nullptr : stack.back();
}

Context& Context::require_current_even_failed() {
    const auto& stack = thread_state().contexts;
    static const auto& none = *new std::shared_ptr<Context>;
    return check_usable(stack.empty() ? none : stack.back());
}

Context& Context::require_current() {
    Context& context = require_current_even_failed();
    context.require_unfailed();
    return context;
}

void Context::push(std::shared_ptr<Context> context) {
    thread_state().contexts.push_back(std::move(context));
}

std::shared_ptr<Context> Context::pop() {
    auto& stack = thread_state().contexts;
    if (stack.empty()) throw DriverError(CUDA_ERROR_INVALID_CONTEXT, "the thread's stack of contexts is empty");
    auto top = std::move(stack.back());
    stack.pop_back();
    return top;
}

void Context::set_current(std::shared_ptr<Context> context) {
    auto& stack = thread_state().contexts;
    if (!stack.empty()) stack.pop_back();
    if (context) stack.push_back(std::move(context));
}

// --- life

void Context::activate(unsigned new_flags) {
    flags = new_flags;
    id_ = next_context_id();
    failure_ = CUDA_SUCCESS;
    cancel_ = false;
    peers_ = 0;
    reset_limits();
    auto legacy = std::make_shared<Stream>(shared_from_this(), Stream::Type::legacy, 0, 0);
    {
        const std::lock_guard lock(mutex_);
        failure_message_.clear();
        legacy_ = std::move(legacy);
        streams_ = {legacy_};
        heap_used_ = 0;
    }
    alive_.store(true, std::memory_order_release);
    AllContexts& all = all_contexts();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.contexts, [&](const auto& weak) { return weak.expired() || weak.lock().get() == this; });
    all.contexts.push_back(weak_from_this());
}

void Context::tear_down() {
    if (!alive()) return;
    for (const auto& stream : streams()) abandon_capture(*stream);
    drain();
    std::vector<std::function<void()>> actions;
    {
        const std::lock_guard lock(mutex_);
        actions.swap(tear_down_actions_);
    }
    for (auto action = actions.rbegin(); action != actions.rend(); ++action) (*action)();
    alive_.store(false, std::memory_order_release);
    drain();
    std::unordered_set<uint64_t> objects;
    std::shared_ptr<Stream> legacy;
    {
        const std::lock_guard lock(mutex_);
        objects.swap(objects_);
        legacy.swap(legacy_);
        streams_.clear();
    }
    for (const uint64_t handle : objects) remove_object(handle);
    for (const auto& allocation : memory_map().owned_by(id())) release_allocation(allocation);
    failure_ = CUDA_SUCCESS;
    memory_map().changed();
}

void Context::adopt(uint64_t handle_value) {
    const std::lock_guard lock(mutex_);
    objects_.insert(handle_value);
}

void Context::disown(uint64_t handle_value) {
    const std::lock_guard lock(mutex_);
    objects_.erase(handle_value);
}

void Context::on_tear_down(std::function<void()> action) {
    const std::lock_guard lock(mutex_);
    tear_down_actions_.push_back(std::move(action));
}

// --- errors

void Context::fail(CUresult error, const std::string& message) {
    CUresult none = CUDA_SUCCESS;
    if (!failure_.compare_exchange_strong(none, error)) return;
    log_line(error == CUDA_ERROR_DEINITIALIZED ? LogLevel::debug : LogLevel::warning, message);
    const std::lock_guard lock(mutex_);
    failure_message_ = message;
}

void Context::require_unfailed() const {
    const CUresult error = failure();
    if (error == CUDA_SUCCESS) return;
    const std::lock_guard lock(mutex_);
    throw DriverError(error, "the context failed earlier: " + failure_message_);
}

void Context::set_peer(const Device& peer, bool enabled) {
    const uint64_t bit = uint64_t{1} << peer.ordinal();
    if (enabled) {
        peers_.fetch_or(bit);
    } else {
        peers_.fetch_and(~bit);
        memory_map().changed();
    }
}

// --- streams

std::shared_ptr<Stream> Context::legacy_stream() {
    const std::lock_guard lock(mutex_);
    if (!legacy_) throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context was destroyed");
    return legacy_;
}

std::shared_ptr<Stream> Context::thread_stream() {
    auto& mine = thread_state().streams;
    std::erase_if(mine, [](const auto& entry) { return !entry.second->context().alive(); });
    if (const auto found = mine.find(id()); found != mine.end()) return found->second;
    auto stream = std::make_shared<Stream>(shared_from_this(), Stream::Type::per_thread, 0, 0);
    enlist(stream);
    mine.emplace(id(), stream);
    return stream;
}

std::vector<std::shared_ptr<Stream>> Context::streams() const {
    std::vector<std::shared_ptr<Stream>> found;
    const std::lock_guard lock(mutex_);
    for (const auto& weak : streams_) {
        if (auto stream = weak.lock()) found.push_back(std::move(stream));
    }
    return found;
}

void Context::enlist(const std::shared_ptr<Stream>& stream) {
    const std::lock_guard lock(mutex_);
    std::erase_if(streams_, [](const auto& weak) { return weak.expired(); });
    streams_.push_back(stream);
}

void Context::drain() {
    for (const auto& stream : streams()) stream->drain();
    flush_print();
}

void Context::synchronize() {
    drain();
    require_unfailed();
}

// --- printf and heap

void Context::print(std::string_view piece) {
    const std::lock_guard lock(print_mutex_);
    const size_t room = limits[CU_LIMIT_PRINTF_FIFO_SIZE];
    print_buffer_ += piece;
    // The FIFO is circular: what was not fetched in time is overwritten, the oldest first.
    if (print_buffer_.size() > room) print_buffer_.erase(0, print_buffer_.size() - room);
}

void Context::flush_print() {
    std::string text;
    {
        const std::lock_guard lock(print_mutex_);
        text.swap(print_buffer_);
    }
    if (text.empty()) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

uint64_t Context::heap_allocate(uint64_t size) {
    const std::lock_guard lock(mutex_);
    if (size == 0 || size > limits[CU_LIMIT_MALLOC_HEAP_SIZE] - heap_used_) return 0;
    try {
        const auto allocation = device_.allocate(this, size, MemoryKind::device, allocation_granule, true);
        heap_used_ += size;
        return allocation->begin;
    } catch (const DriverError&) {
        return 0;
    }
}

void Context::heap_free(uint64_t address) {
    const auto allocation = memory_map().find(address);
    if (!allocation || allocation->begin != address || !allocation->internal || allocation->context_id != id()) {
        return fail(CUDA_ERROR_ILLEGAL_ADDRESS, "in-kernel free of an address that malloc did not return");
    }
    device_.release(allocation);
    const std::lock_guard lock(mutex_);
    heap_used_ -= std::min(heap_used_, allocation->size);
}

DeviceServices Context::services() {
    DeviceServices services;
    services.memory = &memory_view_;
    services.print = [this](std::string_view piece) { print(piece); };
    services.heap_allocate = [this](uint64_t size) { return heap_allocate(size); };
    services.heap_free = [this](uint64_t address) { heap_free(address); };
    services.multiprocessors = static_cast<uint32_t>(device_.config().multiprocessors);
    services.clock_hz = static_cast<uint64_t>(device_.config().clock_khz) * 1000;
    return services;
}

std::vector<std::shared_ptr<Context>> living_contexts(const Device* device) {
    AllContexts& all = all_contexts();
    const std::lock_guard lock(all.mutex);
    std::vector<std::shared_ptr<Context>> found;
    for (const auto& weak : all.contexts) {
        auto context = weak.lock();
        if (context && context->alive() && (!device || &context->device() == device)) {
            found.push_back(std::move(context));
        }
    }
    return found;
}

}  // namespace softgpu
