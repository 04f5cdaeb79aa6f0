#include "host_functions.h"

#include <pthread.h>

#include <thread>

#include "session.h"

namespace gpuferry::worker {

HostFunctions::Turn* HostFunctions::add(uint64_t id, bool stays) {
    const std::lock_guard held(lock_);
    auto& place = turns_[id];
    if (place) return nullptr;
    place = std::make_unique<Turn>(Turn{this, id, stays});
    if (!started_) std::thread([this] { announce_turns(); }).detach();
    started_ = true;
    return place.get();
}

CUresult HostFunctions::launch(CUstream stream, uint64_t id, bool stays) {
    Turn* turn = add(id, stays);
    if (!turn) return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = driver.cuLaunchHostFunc(stream, take_turn, turn);
    if (result) {
        const std::lock_guard held(lock_);
        turns_.erase(id);
    }
    return result;
}

bool HostFunctions::in_graph(uint64_t id, CUDA_HOST_NODE_PARAMS& parameters) {
    Turn* turn = add(id, true);
    parameters.fn = take_turn;
    parameters.userData = turn;
    return turn;
}

uint64_t HostFunctions::id_of(const CUDA_HOST_NODE_PARAMS& parameters) {
    return parameters.fn == take_turn ? static_cast<Turn*>(parameters.userData)->id : 0;
}

// On the driver's own thread, where no driver call is allowed: another thread tells the client.
void HostFunctions::take_turn(void* given) {
    auto* turn = static_cast<Turn*>(given);
    HostFunctions& all = *turn->all;
    std::unique_lock held(all.lock_);
    const uint64_t number = ++turn->begun;
    all.announcements_.push_back(turn->id);
    all.announce_.notify_one();
    all.over_.wait(held, [turn, number] { return turn->over >= number; });
    if (!turn->stays) all.turns_.erase(turn->id);
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
    ++found->second->over;
    over_.notify_all();
}

bool HostFunctions::pending() {
    const std::lock_guard held(lock_);
    return !turns_.empty();
}

void serve_run_on_host(Request& in, Answer& out) {
    const auto id = in.value<uint64_t>();
    const bool stays = in.value<uint64_t>();
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = in.session.host_functions.launch(stream, id, stays);
}

void serve_host_function_done(Request& in, Answer& out) {
    const auto id = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    in.session.host_functions.done(id);
}

}  // namespace gpuferry::worker
