// One launch in progress.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "engine/block.h"
#include "engine/program.h"

namespace softgpu {

class Grid {
  public:
    Grid(const Launch& launch, const Code& code, const std::byte* constants_end);
    // Runs blocks until none is left to begin (and, cooperative, none is unfinished) or the grid stops.
    void work();
    // The first fault wins; the others stop.
    void fail(Fault fault);
    [[nodiscard]] bool stopped() const { return stop_.load(std::memory_order_relaxed); }
    // Stops with Fault::cancelled when the launch was cancelled.
    bool check_cancelled();
    [[nodiscard]] bool more_work() const;
    [[nodiscard]] Fault fault();

    const Launch& launch;
    const Code& code;
    const std::byte* constants_end;
    const std::vector<std::byte>& parameters;
    uint64_t block_count;
    uint64_t number;  // unique in the process: %gridid
    uint32_t shared_bytes;
    uint64_t local_bytes, local_stride;
    std::chrono::steady_clock::time_point started;
    // What cooperative groups keep for a grid (struct grid_workspace of cooperative_groups/details/driver_abi.h).
    struct Workspace {
        uint32_t size = sizeof(Workspace);
        uint32_t barrier = 0;
        uint32_t padding[14] = {};
    };
    alignas(64) Workspace workspace;

  private:
    void work_cooperatively();

    std::atomic<uint64_t> next_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    Fault fault_;
    std::deque<std::unique_ptr<Block>> resident_;
    uint64_t finished_ = 0;
};

// The process's threads that help grids along.
class Helpers {
  public:
    static Helpers& instance();
    // Lets helpers take blocks of the grid until `remove`.
    void add(Grid& grid);
    // Returns when no helper works on the grid any more.
    void remove(Grid& grid);

  private:
    Helpers() = default;
    void start_threads();
    void serve();
    struct Entry {
        Grid* grid;
        uint32_t helpers;
    };
    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    std::deque<Entry> entries_;
    unsigned waiting_ = 0;
    int process_ = 0;
};

}  // namespace softgpu
