#include "waiters.h"

#include <pthread.h>

#include <thread>

namespace gpuferry::worker {

void Waiters::run(CUcontext context, std::function<void()> job) {
    const std::lock_guard held(lock_);
    jobs_.push_back({context, std::move(job)});
    if (free_threads_ >= jobs_.size()) {
        more_.notify_one();
    } else {
        std::thread([this] { work(); }).detach();
    }
}

void Waiters::work() {
    pthread_setname_np(pthread_self(), "waiter");
    CUcontext current = nullptr;
    std::unique_lock held(lock_);
    while (true) {
        ++free_threads_;
        more_.wait(held, [this] { return !jobs_.empty(); });
        --free_threads_;
        const Job job = std::move(jobs_.front());
        jobs_.pop_front();
        held.unlock();
        if (job.context != current) driver.cuCtxSetCurrent(job.context);
        current = job.context;
        job.work();
        held.lock();
    }
}

}  // namespace gpuferry::worker
