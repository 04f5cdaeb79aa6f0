#include "session.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace gpuferry::worker {
namespace {

constexpr size_t input_size = 256u << 10;

// Whether this reply lets the program see what the device has done.
bool makes_visible(uint16_t op, CUresult result) {
    switch (static_cast<Op>(op)) {
        case Op::query_stream:
        case Op::wait_stream:
        case Op::query_event:
        case Op::wait_event:
        case Op::wait_context:
            return result != CUDA_ERROR_NOT_READY;
        default:
            return false;
    }
}

}  // namespace

Session::Session(int descriptor, std::vector<uint64_t> memory, Account& account)
    : account(account), device_memory(std::move(memory)), connection_(descriptor), input_(input_size) {
    output.capture(STDOUT_FILENO, stdout);
    errors.capture(STDERR_FILENO, stderr);
}

void Session::end(const std::string& reason) {
    const int log = errors.original();
    if (const std::string text = errors.take(); !text.empty()) dprintf(log, "%s", text.c_str());
    dprintf(log, "gpuferry-worker: session ended: %s\n", reason.c_str());
    _exit(1);
}

// Makes at least `needed` bytes of input available, all in one piece; false when the client is gone.
bool Session::fill(size_t needed) {
    if (start_ == end_) start_ = end_ = 0;
    if (start_ + needed > input_.size()) {
        std::memmove(input_.data(), input_.data() + start_, end_ - start_);
        end_ -= start_, start_ = 0;
        if (needed > input_.size()) input_.resize(needed);
    }
    while (end_ - start_ < needed) {
        const size_t received = connection_.receive_some(input_.data() + end_, input_.size() - end_);
        if (received == 0) return false;
        AccountSlot::add(account.own().bytes_in, received);
        end_ += received;
    }
    return true;
}

void Session::take_bulk(void* place, size_t size) {
    if (size > bulk_left_) end("a request carries fewer bytes than it says");
    bulk_left_ -= size;
    auto* next = static_cast<char*>(place);
    const size_t here = std::min(size, end_ - start_);
    std::memcpy(next, input_.data() + start_, here);
    start_ += here;
    if (size == here) return;
    if (!connection_.receive(next + here, size - here)) end("the client is gone");
    AccountSlot::add(account.own().bytes_in, size - here);
}

// The client may be gone while the dispatcher is inside a call that does not return: what has arrived gets a moment to
// be executed, then the session ends whatever it is doing, so that its memory is free within a second.
void Session::watch_peer() {
    pollfd peer{connection_.descriptor(), POLLRDHUP, 0};
    while (poll(&peer, 1, -1) < 0 && errno == EINTR) {
    }
    usleep(700'000);
    _exit(0);
}

void Session::serve() {
    std::thread([this] { watch_peer(); }).detach();
    try {
        while (true) {
            if (!fill(sizeof(RequestHeader))) break;
            RequestHeader header;
            std::memcpy(&header, input_.data() + start_, sizeof header);
            if (header.bytes > largest_payload || header.bytes % 8) end("a frame of a wrong size");
            start_ += sizeof header;
            // Bulk data is read by its handler, straight to where it belongs.
            const bool bulk = header.op == static_cast<uint16_t>(Op::copy_in);
            const size_t head = bulk ? std::min<size_t>(header.bytes, copy_in_fields) : header.bytes;
            if (!fill(head)) break;
            bulk_left_ = header.bytes - head;
            const std::span<const char> payload(input_.data() + start_, head);
            if (bulk) start_ += head;  // the payload stays where it is until the handler takes bulk data
            dispatch(header, payload);
            if (bulk) {
                char rest[4096];
                while (bulk_left_) take_bulk(rest, std::min(bulk_left_, sizeof rest));
            } else {
                start_ += head;
                if (input_.size() > input_size && start_ == end_) {  // a module's image has passed: shrink again
                    input_ = std::vector<char>(input_size);
                    start_ = end_ = 0;
                }
            }
        }
    } catch (const TransportError& error) {
        end(error.what());
    } catch (const std::bad_alloc&) {
        end("out of host memory");
    }
    _exit(0);
}

// Whether a request can leave work for a GPU behind. To say so of one that does not costs nothing but an earlier end of
// memory that is freed.
static bool gives_work(uint16_t op) {
    switch (static_cast<Op>(op)) {
        case Op::open_session:
        case Op::map_memory:
        case Op::unmap_memory:
        case Op::set_rights:
        case Op::wait_context:
            return false;
        default:
            return true;
    }
}

void Session::finish_uploads() {
    if (!host_functions.pending() && !twins.any()) staging.finish_uploads();
}

// Asks the driver about each stream. False where that could not tell of all the work there is.
bool Session::streams_are_idle() const {
    if (devices.size() > 1 || last_destroyed_stream_ > idle_behind_) return false;  // which may still have work
    // Each context has a default stream of its own: there must be one, and be current, or be the primary one.
    const auto& contexts = objects.all(Kind::context);
    if (contexts.size() > 1 || (!current_ && !contexts.contains(devices.front().primary))) return false;
    const auto& streams = objects.all(Kind::stream);
    // A question about a stream that captures, or that waits for one, would end the capture.
    for (const auto& [stream, handle] : streams) {
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        if (driver.cuStreamIsCapturing(static_cast<CUstream>(stream), &status) || status) return false;
    }
    // The request may come while no context is current; the driver wants one.
    if (!current_) driver.cuCtxSetCurrent(devices.front().primary);
    const bool idle =
        !driver.cuStreamQuery(nullptr) && std::all_of(streams.begin(), streams.end(), [](const auto& entry) {
            return !driver.cuStreamQuery(static_cast<CUstream>(entry.first));
        });
    if (!current_) driver.cuCtxSetCurrent(nullptr);
    return idle;
}

bool Session::is_idle() {
    if (last_work_ > idle_behind_ && streams_are_idle()) note_idle(last_work_);
    return last_work_ <= idle_behind_;
}

void Session::note_idle(uint64_t number) {
    if (devices.size() > 1) return;  // it was one GPU of several
    uint64_t known = idle_behind_;
    while (known < number && !idle_behind_.compare_exchange_weak(known, number)) {
    }
}

void Session::dispatch(const RequestHeader& header, std::span<const char> payload) {
    if (gives_work(header.op)) last_work_ = header.number;
    if (header.op == static_cast<uint16_t>(Op::cuStreamDestroy_v2)) last_destroyed_stream_ = header.number;
    AccountSlot& cost = account.own();
    AccountSlot::add(cost.calls, 1);
    if (header.op == static_cast<uint16_t>(Op::launch)) AccountSlot::add(cost.launches, 1);
    if (header.flags & request_blocks) AccountSlot::add(cost.round_trips, 1);
    Request in(*this, header, payload);
    Answer out;
    const Handler handler = handler_of(header.op);
    if (!handler) {
        out.result = CUDA_ERROR_NOT_SUPPORTED;
    } else if (const CUresult failure = make_current(header.context)) {
        out.result = failure;
    } else {
        handler(in, out);
    }
    if (header.flags & request_awaited) {
        if (!out.later) reply(header.number, out.result, out.payload.view(), {}, makes_visible(header.op, out.result));
    } else if (out.result != CUDA_SUCCESS) {
        latch(out.result, static_cast<Op>(header.op));
    }
}

CUresult Session::find_context(Handle handle, CUcontext& real) {
    const Object* object = objects.find(Kind::context, handle);
    if (!object) return CUDA_ERROR_INVALID_CONTEXT;
    if (object->failed) return object->failed;
    real = static_cast<CUcontext>(object->real);
    return CUDA_SUCCESS;
}

CUresult Session::make_current(Handle handle) {
    if (handle == current_handle_) return CUDA_SUCCESS;
    CUcontext real = nullptr;
    if (handle) {
        if (const CUresult failure = find_context(handle, real)) return failure;
    }
    if (const CUresult failure = driver.cuCtxSetCurrent(real)) return failure;
    current_handle_ = handle;
    current_ = real;
    return CUDA_SUCCESS;
}

bool Session::settle_frees() {
    if (host_functions.pending()) return false;
    reaper.drain();
    return true;
}

size_t Session::device_of_current() const {
    CUdevice device = 0;
    if (driver.cuCtxGetDevice(&device)) return 0;
    for (size_t i = 0; i < devices.size(); ++i) {
        if (devices[i].device == device) return i;
    }
    return 0;
}

void Session::latch(CUresult error, Op op) {
    const std::lock_guard held(replying_);
    if (latched_ == CUDA_SUCCESS) {
        latched_ = error;
        latched_op_ = op;
    }
}

void Session::deliver_later(PendingCopy copy) {
    const std::lock_guard held(replying_);
    copies_.push_back(std::move(copy));
}

// The caller holds `replying_`.
void Session::send_delivery(Delivery kind, std::span<const char> fields, std::span<const char> bytes) {
    ReplyHeader header;
    header.result = static_cast<int32_t>(kind);
    header.bytes = static_cast<uint32_t>(fields.size() + padded(bytes.size()));
    char padding[8] = {};
    iovec parts[4] = {{&header, sizeof header},
                      {const_cast<char*>(fields.data()), fields.size()},
                      {const_cast<char*>(bytes.data()), bytes.size()},
                      {padding, padded(bytes.size()) - bytes.size()}};
    connection_.send(parts, 4);
    AccountSlot::add(account.own().bytes_out, sizeof header + header.bytes);
}

// What kernels printed, and what they wrote to host memory. The caller holds `replying_`.
void Session::send_device_changes() {
    if (const std::string text = output.take(); !text.empty()) {
        const uint64_t size = text.size();
        send_delivery(Delivery::output, {reinterpret_cast<const char*>(&size), sizeof size}, text);
    }
    if (const std::string text = errors.take(); !text.empty()) {
        dprintf(errors.original(), "%s", text.c_str());  // into this server's log as well
        const uint64_t size = text.size();
        send_delivery(Delivery::error_output, {reinterpret_cast<const char*>(&size), sizeof size}, text);
    }
    if (!twins.any()) return;
    twins.collect([this](uint64_t address, const ChangedBytes& changed, std::span<const char> bytes) {
        std::array<char, 2 * sizeof(uint64_t) + sizeof(ChangedBytes)> fields;
        const uint64_t numbers[2] = {address, bytes.size()};
        const std::span<const char> bits = changed.wire(bytes.size());
        std::memcpy(fields.data(), numbers, sizeof numbers);
        std::memcpy(fields.data() + sizeof numbers, bits.data(), bits.size());
        send_delivery(Delivery::pages, {fields.data(), sizeof numbers + bits.size()}, bytes);
    });
}

void Session::deliver_turn(uint64_t id) {
    try {
        const std::lock_guard held(replying_);
        if (!copies_.empty()) send_visible_copies();
        send_device_changes();
        send_delivery(Delivery::host_function, {reinterpret_cast<const char*>(&id), sizeof id}, {});
    } catch (const TransportError& error) {
        end(error.what());
    }
}

// Sends the posted device-to-host copies that are complete. The caller holds `replying_`.
void Session::send_visible_copies() {
    for (auto copy = copies_.begin(); copy != copies_.end();) {
        if (driver.cuEventQuery(copy->staged.block->event) == CUDA_ERROR_NOT_READY) {
            ++copy;
            continue;
        }
        const uint64_t fields[3] = {copy->number, copy->offset, copy->staged.size};
        send_delivery(Delivery::copied, {reinterpret_cast<const char*>(fields), sizeof fields},
                      {copy->staged.block->memory, copy->staged.size});
        staging.give_back(std::move(copy->staged.block));
        copy = copies_.erase(copy);
    }
}

void Session::reply(uint64_t number, CUresult result, std::span<const char> payload, std::span<const char> bulk,
                    bool visible) {
    try {
        const std::lock_guard held(replying_);
        if (!copies_.empty()) send_visible_copies();
        if (visible) send_device_changes();
        ReplyHeader header;
        header.number = number;
        header.result = result;
        header.bytes = static_cast<uint32_t>(padded(payload.size()) + padded(bulk.size()));
        header.latched = latched_;
        header.latched_op = static_cast<uint16_t>(latched_op_);
        latched_ = CUDA_SUCCESS;
        char padding[8] = {};
        iovec parts[4] = {{&header, sizeof header},
                          {const_cast<char*>(payload.data()), payload.size()},
                          {const_cast<char*>(bulk.data()), bulk.size()},
                          {padding, padded(bulk.size()) - bulk.size()}};
        connection_.send(parts, 4);
        AccountSlot::add(account.own().bytes_out, sizeof header + header.bytes);
    } catch (const TransportError& error) {
        end(error.what());
    }
}

void Session::reply_when_staged(uint64_t number, std::shared_ptr<Staged> staged) {
    const auto answer = [this, number, staged](CUresult result) {
        const std::span<const char> bytes(staged->block->memory, staged->size);
        reply(number, result, {}, result ? std::span<const char>() : bytes, true);
        staging.give_back(std::move(staged->block));
    };
    const CUresult now = driver.cuEventQuery(staged->block->event);
    if (now != CUDA_ERROR_NOT_READY) return answer(now);
    waiters.run(current_, [staged, answer] { answer(driver.cuEventSynchronize(staged->block->event)); });
}

void Session::reply_after(uint64_t number, std::function<CUresult()> wait) {
    waiters.run(current_, [this, number, wait = std::move(wait)] { reply(number, wait(), {}, {}, true); });
}

}  // namespace gpuferry::worker
