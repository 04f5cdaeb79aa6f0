#include "quota.h"

#include <unistd.h>

#include <chrono>

namespace gpuferry::worker {
namespace {

// A killed session's worker gives its client's last posts 0.7 s before it ends; a busy machine takes longer.
constexpr std::chrono::seconds longest_wait(30);
constexpr useconds_t between_tries_us = 1000;

}  // namespace

bool Quota::take(size_t device, uint64_t bytes) {
    if (device >= limits_.size() || device >= account_devices) return false;
    const auto deadline = std::chrono::steady_clock::now() + longest_wait;
    while (true) {
        uint64_t others = 0;
        {
            const std::lock_guard held(lock_);
            const std::lock_guard alone(account_);
            auto& used = account_.own().used[device];
            others = account_.used_by_others(device);
            const uint64_t held_now = used + others;
            if (held_now <= limits_[device] && bytes <= limits_[device] - held_now) {
                used += bytes;
                return true;
            }
            if (bytes > limits_[device] - std::min<uint64_t>(used, limits_[device])) return false;
        }
        if (!others || !patient_ || std::chrono::steady_clock::now() > deadline) return false;
        usleep(between_tries_us);
    }
}

void Quota::give_back(size_t device, uint64_t bytes) {
    if (device < limits_.size()) account_.own().used[device] -= bytes;
}

}  // namespace gpuferry::worker
