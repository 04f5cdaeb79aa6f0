// Gives device memory back once nothing on the GPU can use it any more, on a thread of its own: cuMemFree waits for
// the GPU, and the dispatcher must not.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "driver.h"

namespace gpuferry::worker {

// One stretch of the client's device memory.
struct Mapping {
    uint64_t size = 0;  // bytes
    size_t device = 0;
    CUmemGenericAllocationHandle memory = 0;
    bool of_pool = false;                  // other GPUs reach it as the pool says, not with peer access
    std::shared_ptr<void> held = nullptr;  // where the program maps memory itself: keeps that memory accounted for
};

class Reaper {
  public:
    // Unmaps and releases when all work issued to `context` so far is complete; `then` runs when it is.
    void give_back(CUcontext context, uint64_t address, const Mapping& mapping, std::function<void()> then);
    // Runs `then` on the reaper's thread once everything given so far is back and `context` has caught up.
    void fence(CUcontext context, std::function<void()> then);
    // Waits until everything given so far is back.
    void drain();

  private:
    struct Job {
        CUcontext context = nullptr;
        uint64_t address = 0;
        Mapping mapping;
        std::function<void()> then;
    };
    void add(Job job);
    void work();

    std::mutex lock_;
    std::condition_variable more_, done_;
    std::deque<Job> jobs_;
    uint64_t added_ = 0, finished_ = 0;
    bool started_ = false;
};

}  // namespace gpuferry::worker
