// Threads that wait for the GPU on behalf of the client's threads, so that the dispatcher never does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "driver.h"

namespace gpuferry::worker {

class Waiters {
  public:
    // Runs `job` on a waiter thread with `context` current. A thread is started when none is free: there are at most
    // as many as the client has waited in at once.
    void run(CUcontext context, std::function<void()> job);

  private:
    struct Job {
        CUcontext context;
        std::function<void()> work;
    };
    void work();

    std::mutex lock_;
    std::condition_variable more_;
    std::deque<Job> jobs_;
    size_t free_threads_ = 0;
};

}  // namespace gpuferry::worker
