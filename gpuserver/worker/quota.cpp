#include "quota.h"

#include <unistd.h>

#include <chrono>

namespace gpuferry::worker {
namespace {

// A killed session's worker gives its client's last posts 0.7 s before it ends; a busy machine takes longer.
constexpr std::chrono::seconds longest_wait(30);
constexpr useconds_t between_tries_us = 1000;

}  // namespace

// `others`: what the lease's other sessions hold.
bool Quota::try_take(size_t device, uint64_t bytes, uint64_t& others) {
    const std::lock_guard held(lock_);
    const std::lock_guard alone(account_);
    auto& used = account_.own().used[device];
    others = account_.used_by_others(device);
    const uint64_t all = used + others;
    if (all > limits_[device] || bytes > limits_[device] - all) return false;
    used += bytes;
    return true;
}

bool Quota::take(size_t device, uint64_t bytes) {
    if (device >= limits_.size() || device >= account_devices || bytes > limits_[device]) return false;
    uint64_t others = 0;
    if (try_take(device, bytes, others)) return true;
    if (settle_() && try_take(device, bytes, others)) return true;
    const auto deadline = std::chrono::steady_clock::now() + longest_wait;
    while (others && patient_ && std::chrono::steady_clock::now() < deadline) {
        usleep(between_tries_us);
        if (try_take(device, bytes, others)) return true;
    }
    return false;
}

void Quota::give_back(size_t device, uint64_t bytes) {
    if (device < limits_.size()) account_.own().used[device] -= bytes;
}

}  // namespace gpuferry::worker
