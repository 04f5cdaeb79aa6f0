// The account of one lease: shared by the workers of all its sessions, made and read by the daemon
// (gpuserver/account.py has the same layout). Each session writes a slot of its own, so that a crashed worker's share
// is known and comes back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gpuferry::worker {

constexpr size_t account_slots = 256;
constexpr size_t account_devices = 16;

struct AccountSlot {
    using Counter = std::atomic<uint64_t>;
    Counter process = 0;
    // What the session has cost. Each is written by one thread at a time: a plain store after a load is enough.
    Counter calls = 0, launches = 0, round_trips = 0, bytes_in = 0, bytes_out = 0;
    Counter spare[2] = {};
    Counter used[account_devices] = {};  // bytes of each GPU

    static void add(Counter& counter, uint64_t amount) {
        counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }
};
static_assert(sizeof(AccountSlot) == 8 * (8 + account_devices));
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class Account {
  public:
    // `descriptor` is the daemon's shared memory, -1 for a worker that is alone; `slot` is this session's.
    // Raises std::runtime_error.
    Account(int descriptor, size_t slot);
    Account(const Account&) = delete;
    Account& operator=(const Account&) = delete;

    [[nodiscard]] AccountSlot& own() { return slots_[own_]; }
    // Bytes that the lease's other sessions hold of a GPU.
    [[nodiscard]] uint64_t used_by_others(size_t device) const;
    // While one holds it, no worker of the lease takes memory. The operating system lets go for one that dies.
    void lock();
    void unlock();

  private:
    void set_lock(short type) const;

    int descriptor_;
    size_t own_;
    AccountSlot* slots_ = nullptr;
};

}  // namespace gpuferry::worker
