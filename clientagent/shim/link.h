// The session's one ordered stream: every thread's posts go out through it in one order, every reply comes back
// through it.
//
// Send when idle, coalesce when busy: a post on an idle stream wakes the writer thread at once; posts made while bytes
// are being sent gather and leave together. A caller that waits anyway sends what has gathered itself, without that
// thread, and one of the callers that wait reads the replies for all of them: a round trip costs no thread switch
// beyond those of the two sockets. No timer is involved anywhere.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "protocol_ops.h"
#include "transport.h"
#include "wire.h"

namespace gpuferry {

// Where a reply goes. Bulk bytes go straight to `direct`, where the caller gave it; the rest to `payload`.
struct Reply {
    Op op{};              // of the request
    uint64_t number = 0;  // of the request
    ReplyHeader header;
    std::vector<char> payload;
    void* direct = nullptr;  // the first `direct_size` bytes of a successful reply's payload go here
    size_t direct_size = 0;
    bool done = false;
    bool lost = false;     // the connection ended first
    bool awaited = false;  // a thread sleeps (or reads) for it now
    std::condition_variable arrived;
};

struct LinkCounts {
    std::atomic<uint64_t> posts = 0, round_trips = 0, bytes_out = 0, bytes_in = 0, waited_ns = 0, sends = 0;
    std::array<std::atomic<uint64_t>, static_cast<size_t>(Op::count)> round_trips_by_op{};
};

class Link {
  public:
    // What arrives for the client outside any reply; called by whichever thread reads.
    using Deliver = std::function<void(Delivery, std::span<const char> payload)>;
    using Lost = std::function<void(const char* reason)>;

    Link(int descriptor, Deliver deliver, Lost lost);
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    // Posts one request: a payload, and bulk bytes behind it that are taken before the call returns. Both are padded
    // to 8 bytes. Returns the request's number; 0 when the connection is lost.
    uint64_t post(Op op, uint64_t context, std::span<const char> payload, std::span<const char> bulk = {});

    // Sends a request whose reply somebody will wait for; false when the connection is lost.
    // `counted`: one blocking round trip in the server's counts (the pieces of one copy are one).
    bool begin(Op op, uint64_t context, std::span<const char> payload, Reply& reply, bool counted = true);
    // Waits for the reply of a request that began; false when the connection was lost first. `counted`: in the
    // client's counts.
    bool await(Reply& reply, bool counted);
    bool ask(Op op, uint64_t context, std::span<const char> payload, Reply& reply) {
        return begin(op, context, payload, reply) && await(reply, true);
    }

    // While `on`, somebody reads even when no call waits: host functions arrive unasked.
    void listen(bool on);
    // Sends everything that was posted so far (at exit).
    void flush();
    // The number of the last request so far.
    [[nodiscard]] uint64_t last_number() {
        const std::lock_guard held(sending_);
        return last_number_;
    }
    [[nodiscard]] bool lost() const { return lost_.load(std::memory_order_relaxed); }
    // In a forked child: gives up the parent's socket without a word to the peer.
    void abandon() { lost_ = true; }
    [[nodiscard]] int descriptor() const { return connection_.descriptor(); }

    LinkCounts counts;

  private:
    uint64_t append(Op op, uint16_t flags, uint64_t context, std::span<const char> payload, size_t bulk_size);
    void send_gathered(std::unique_lock<std::mutex>& held, std::span<const char> bulk);
    void write_until_lost();
    void listen_until_lost();
    void hand_on_reading();
    void read_one_reply(std::unique_lock<std::mutex>& held);
    void receive_exactly(void* data, size_t size);
    void fail(const char* reason);

    Connection connection_;
    const Deliver deliver_;
    const Lost report_lost_;
    std::atomic<bool> lost_ = false;

    std::mutex sending_;  // guards the five below
    std::vector<char> gathered_, leaving_;
    uint64_t last_number_ = 0;
    bool writing_ = false;  // somebody is in send(), with the lock released
    bool writer_sleeps_ = false;
    std::condition_variable wake_writer_;
    std::condition_variable writing_ended_;

    std::mutex receiving_;  // guards the waiting calls and who reads
    std::unordered_map<uint64_t, Reply*> waiting_;
    bool reading_ = false;
    int listening_ = 0;  // reasons to read when no call waits
    bool listener_started_ = false;
    std::condition_variable listener_wakes_;
    std::vector<char> input_;  // used by the reading thread only
    size_t input_start_ = 0, input_end_ = 0;
};

}  // namespace gpuferry
