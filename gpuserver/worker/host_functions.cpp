#include "host_functions.h"

#include <pthread.h>

#include <thread>

#include "session.h"

namespace gpuferry::worker {

CUresult HostFunctions::launch(CUstream stream, uint64_t id) {
    Turn* turn = nullptr;
    {
        const std::lock_guard held(lock_);
        auto& place = turns_[id];
        if (place) return CUDA_ERROR_INVALID_VALUE;
        place = std::make_unique<Turn>(Turn{this, id, false});
        turn = place.get();
        if (!started_) std::thread([this] { announce_turns(); }).detach();
        started_ = true;
    }
    const CUresult result = driver.cuLaunchHostFunc(stream, take_turn, turn);
    if (result) {
        const std::lock_guard held(lock_);
        turns_.erase(id);
    }
    return result;
}

// On the driver's own thread, where no driver call is allowed: another thread tells the client.
void HostFunctions::take_turn(void* given) {
    auto* turn = static_cast<Turn*>(given);
    HostFunctions& all = *turn->all;
    std::unique_lock held(all.lock_);
    all.announcements_.push_back(turn->id);
    all.announce_.notify_one();
    all.over_.wait(held, [turn] { return turn->over; });
    all.turns_.erase(turn->id);
}

void HostFunctions::announce_turns() {
    pthread_setname_np(pthread_self(), "host-functions");
    std::unique_lock held(lock_);
    while (true) {
        announce_.wait(held, [this] { return !announcements_.empty(); });
        const uint64_t id = announcements_.front();
        announcements_.pop_front();
        held.unlock();
        session_.deliver_turn(id);
        held.lock();
    }
}

void HostFunctions::done(uint64_t id) {
    const std::lock_guard held(lock_);
    const auto found = turns_.find(id);
    if (found == turns_.end()) return;
    found->second->over = true;
    over_.notify_all();
}

bool HostFunctions::pending() {
    const std::lock_guard held(lock_);
    return !turns_.empty();
}

void serve_run_on_host(Request& in, Answer& out) {
    const auto id = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = in.session.host_functions.launch(stream, id);
}

void serve_host_function_done(Request& in, Answer& out) {
    const auto id = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    in.session.host_functions.done(id);
}

}  // namespace gpuferry::worker
