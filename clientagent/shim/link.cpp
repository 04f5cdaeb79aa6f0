#include "link.h"

#include <signal.h>

#include <cstring>
#include <ctime>
#include <utility>

namespace gpuferry {
namespace {

// Posts that gather beyond this make the poster wait until they have left: memory stays bounded.
constexpr size_t most_gathered = 8u << 20;
// Bulk bytes at least this large are sent from where they lie instead of being copied.
constexpr size_t send_in_place = 32u << 10;
constexpr size_t input_size = 128u << 10;

uint64_t nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Link::Link(int descriptor, Deliver deliver, Lost lost)
    : connection_(descriptor), deliver_(std::move(deliver)), report_lost_(std::move(lost)), input_(input_size) {
    gathered_.reserve(1u << 20);
    leaving_.reserve(1u << 20);
    // The program's signals are for the program's threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { write_until_lost(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Link::fail(const char* reason) {
    if (!lost_.exchange(true)) report_lost_(reason);
}

uint64_t Link::append(Op op, uint16_t flags, uint64_t context, std::span<const char> payload, size_t bulk_size) {
    RequestHeader header;
    header.bytes = static_cast<uint32_t>(padded(payload.size()) + padded(bulk_size));
    header.op = static_cast<uint16_t>(op);
    header.flags = flags;
    header.number = ++last_number_;
    header.context = context;
    const size_t start = gathered_.size();
    gathered_.resize(start + sizeof header + padded(payload.size()));
    std::memcpy(gathered_.data() + start, &header, sizeof header);
    if (!payload.empty()) std::memcpy(gathered_.data() + start + sizeof header, payload.data(), payload.size());
    return header.number;
}

// Sends what has gathered, then `bulk`. The lock is released meanwhile; `writing_` keeps the order.
void Link::send_gathered(std::unique_lock<std::mutex>& held, std::span<const char> bulk) {
    writing_ = true;
    leaving_.swap(gathered_);
    held.unlock();
    static constexpr char padding[8] = {};
    iovec parts[3] = {{leaving_.data(), leaving_.size()},
                      {const_cast<char*>(bulk.data()), bulk.size()},
                      {const_cast<char*>(padding), padded(bulk.size()) - bulk.size()}};
    counts.bytes_out.fetch_add(leaving_.size() + padded(bulk.size()), std::memory_order_relaxed);
    counts.sends.fetch_add(1, std::memory_order_relaxed);
    try {
        if (!lost()) connection_.send(parts, bulk.empty() ? 1 : 3);
    } catch (const TransportError& error) {
        fail(error.what());
    }
    held.lock();
    leaving_.clear();
    writing_ = false;
    writing_ended_.notify_all();
}

uint64_t Link::post(Op op, uint64_t context, std::span<const char> payload, std::span<const char> bulk) {
    std::unique_lock held(sending_);
    // Bytes that are sent from where they lie leave with their request: nobody may send that one alone, nor put another
    // behind it first.
    const bool in_place = bulk.size() >= send_in_place;
    if (in_place) writing_ended_.wait(held, [this] { return !writing_; });
    if (lost()) return 0;
    const uint64_t number = append(op, 0, context, payload, bulk.size());
    counts.posts.fetch_add(1, std::memory_order_relaxed);
    if (in_place) {
        send_gathered(held, bulk);
    } else if (!bulk.empty()) {
        const size_t start = gathered_.size();
        gathered_.resize(start + padded(bulk.size()));
        std::memcpy(gathered_.data() + start, bulk.data(), bulk.size());
    }
    if (gathered_.size() > most_gathered) {
        writing_ended_.wait(held, [this] { return !writing_; });
        if (gathered_.size() > most_gathered) send_gathered(held, {});
    }
    if (writer_sleeps_ && !writing_ && !gathered_.empty()) {
        writer_sleeps_ = false;
        held.unlock();
        wake_writer_.notify_one();
    }
    return number;
}

void Link::write_until_lost() {
    pthread_setname_np(pthread_self(), "gpuferry-link");
    std::unique_lock held(sending_);
    while (!lost()) {
        if (writing_) {
            writing_ended_.wait(held);
        } else if (!gathered_.empty()) {
            send_gathered(held, {});
        } else {
            writer_sleeps_ = true;
            wake_writer_.wait(held);
            writer_sleeps_ = false;
        }
    }
}

void Link::flush() {
    std::unique_lock held(sending_);
    writing_ended_.wait(held, [this] { return !writing_; });
    if (!gathered_.empty() && !lost()) send_gathered(held, {});
}

bool Link::begin(Op op, uint64_t context, std::span<const char> payload, Reply& reply, bool counted) {
    std::unique_lock held(sending_);
    if (lost()) return false;
    reply.op = op;
    const uint64_t number =
        append(op, counted ? request_awaited | request_blocks : request_awaited, context, payload, 0);
    reply.number = number;
    {
        const std::lock_guard registering(receiving_);
        waiting_.emplace(number, &reply);
    }
    // Whoever is writing now takes this request along afterwards.
    if (!writing_) send_gathered(held, {});
    if (!gathered_.empty() && writer_sleeps_ && !writing_) wake_writer_.notify_one();
    return true;
}

bool Link::await(Reply& reply, bool counted) {
    const uint64_t start = nanoseconds();
    std::unique_lock held(receiving_);
    reply.awaited = true;
    while (!reply.done) {
        if (reading_) {
            reply.arrived.wait(held);
        } else {
            read_one_reply(held);
        }
    }
    hand_on_reading();
    if (counted) {
        counts.round_trips.fetch_add(1, std::memory_order_relaxed);
        counts.round_trips_by_op[static_cast<size_t>(reply.op)].fetch_add(1, std::memory_order_relaxed);
    }
    counts.waited_ns.fetch_add(nanoseconds() - start, std::memory_order_relaxed);
    return !reply.lost;
}

// The reader's place is free: one of the others that still wait takes it, or the listener. The lock is held.
void Link::hand_on_reading() {
    if (reading_) return;
    for (const auto& [number, other] : waiting_) {
        if (!other->awaited) continue;
        other->arrived.notify_one();
        return;
    }
    if (listening_) listener_wakes_.notify_one();
}

void Link::listen(bool on) {
    const std::lock_guard held(receiving_);
    listening_ += on ? 1 : -1;
    if (!on) return;
    if (!listener_started_) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        std::thread([this] { listen_until_lost(); }).detach();
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        listener_started_ = true;
    }
    listener_wakes_.notify_one();
}

void Link::listen_until_lost() {
    pthread_setname_np(pthread_self(), "gpuferry-listen");
    std::unique_lock held(receiving_);
    while (!lost()) {
        listener_wakes_.wait(held, [this] { return lost() || (listening_ && !reading_); });
        if (lost()) return;
        read_one_reply(held);
        hand_on_reading();
    }
}

void Link::receive_exactly(void* data, size_t size) {
    auto* next = static_cast<char*>(data);
    while (size) {
        if (input_start_ == input_end_) {
            // Long payloads go straight to their place.
            const bool straight = size >= input_.size();
            const size_t received = straight ? connection_.receive_some(next, size)
                                             : connection_.receive_some(input_.data(), input_.size());
            if (received == 0) throw TransportError("the server closed the connection");
            counts.bytes_in.fetch_add(received, std::memory_order_relaxed);
            if (straight) {
                next += received, size -= received;
                continue;
            }
            input_start_ = 0, input_end_ = received;
        }
        const size_t part = std::min(size, input_end_ - input_start_);
        std::memcpy(next, input_.data() + input_start_, part);
        input_start_ += part, next += part, size -= part;
    }
}

// Reads until one reply (or delivery) is complete; the lock is released meanwhile and `reading_` keeps others out.
void Link::read_one_reply(std::unique_lock<std::mutex>& held) {
    reading_ = true;
    held.unlock();
    Reply* reply = nullptr;
    try {
        ReplyHeader header;
        receive_exactly(&header, sizeof header);
        if (header.number == 0) {
            std::vector<char> payload(header.bytes);
            receive_exactly(payload.data(), payload.size());
            deliver_(static_cast<Delivery>(header.result), payload);
            held.lock();
            reading_ = false;
            return;
        }
        held.lock();
        if (const auto found = waiting_.find(header.number); found != waiting_.end()) reply = found->second;
        held.unlock();
        if (!reply) throw TransportError("the server answered a request that nobody waits for");
        reply->header = header;
        size_t rest = header.bytes;
        if (header.result == 0 && reply->direct_size) {
            if (header.bytes != padded(reply->direct_size))
                throw TransportError("the server sent a wrong amount of data");
            receive_exactly(reply->direct, reply->direct_size);
            rest -= reply->direct_size;
            char padding[8];
            receive_exactly(padding, rest);
        } else {
            reply->payload.resize(rest);
            receive_exactly(reply->payload.data(), rest);
        }
    } catch (const TransportError& error) {
        fail(error.what());
    }
    if (!held.owns_lock()) held.lock();
    reading_ = false;
    if (lost()) {
        for (auto& [number, waiting] : waiting_) {
            waiting->done = waiting->lost = true;
            waiting->arrived.notify_one();
        }
        waiting_.clear();
    } else if (reply) {
        waiting_.erase(reply->header.number);
        reply->done = true;
        reply->arrived.notify_one();
    }
}

}  // namespace gpuferry
