// How much device memory the session holds on each GPU, and how much it may: all sessions of the lease together never
// hold more than the slice.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "account.h"

namespace gpuferry::worker {

class Quota {
  public:
    // `settle` finishes what this session's own frees still have to do; false when that cannot be waited for now.
    Quota(Account& account, std::function<bool()> settle) : account_(account), settle_(std::move(settle)) {}

    // `limit` is the slice.
    void add_device(uint64_t limit) { limits_.push_back(limit); }
    // Takes memory from a GPU's slice; false when the slice has not that much left. A patient one waits
    // while other sessions hold memory: the client knows of their frees, and of their ends, before this server does.
    bool take(size_t device, uint64_t bytes);
    void give_back(size_t device, uint64_t bytes);
    // The lease's clients count together: what one of them takes, the others have freed, or died with.
    void be_patient() { patient_ = true; }
    [[nodiscard]] uint64_t limit(size_t device) const { return limits_[device]; }
    // Bytes that this session holds.
    [[nodiscard]] uint64_t used(size_t device) const { return account_.own().used[device]; }

  private:
    bool try_take(size_t device, uint64_t bytes, uint64_t& others);

    Account& account_;
    const std::function<bool()> settle_;
    std::mutex lock_;
    bool patient_ = false;
    std::vector<uint64_t> limits_;  // bytes
};

}  // namespace gpuferry::worker
