#include "reaper.h"

#include <pthread.h>

#include <thread>

namespace gpuferry::worker {

void Reaper::add(Job job) {
    const std::lock_guard held(lock_);
    jobs_.push_back(std::move(job));
    ++added_;
    if (!started_) std::thread([this] { work(); }).detach();
    started_ = true;
    more_.notify_one();
}

void Reaper::give_back(CUcontext context, uint64_t address, const Mapping& mapping, std::function<void()> then) {
    add({context, address, mapping, std::move(then)});
}

void Reaper::fence(CUcontext context, std::function<void()> then) {
    add({context, 0, {}, std::move(then)});
}

void Reaper::drain() {
    std::unique_lock held(lock_);
    const uint64_t target = added_;
    done_.wait(held, [this, target] { return finished_ >= target; });
}

void Reaper::work() {
    pthread_setname_np(pthread_self(), "reaper");
    std::unique_lock held(lock_);
    while (true) {
        more_.wait(held, [this] { return !jobs_.empty(); });
        std::deque<Job> batch;
        batch.swap(jobs_);
        held.unlock();
        CUcontext idle = nullptr;  // one wait serves all jobs of the batch that follow each other in one context
        for (const Job& job : batch) {
            if (job.context && job.context != idle) {
                driver.cuCtxSetCurrent(job.context);
                driver.cuCtxSynchronize();
                idle = job.context;
            }
            if (job.mapping.size) {
                driver.cuMemUnmap(job.address, job.mapping.size);
                driver.cuMemRelease(job.mapping.memory);
            }
            if (job.then) job.then();
        }
        held.lock();
        finished_ += batch.size();
        done_.notify_all();
    }
}

}  // namespace gpuferry::worker
