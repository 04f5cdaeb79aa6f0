// A thread block: its warps, its shared and local memory, its barriers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/warp.h"

namespace softgpu {

class Grid;

struct Barrier {
    uint32_t arrived = 0;   // threads
    uint32_t expected = 0;  // threads; 0: all of the block that have not ended
    uint32_t count = 0;     // bar.red: threads whose predicate was true
    uint32_t voters = 0;
};

class Block {
  public:
    Block() = default;
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    // Makes the block with this linear index ready to run.
    void start(Grid& grid, uint64_t index, RangeCache& ranges);
    // Gives every warp a turn. True when all have ended. Throws KernelFault.
    bool advance(RangeCache& ranges);

    // --- for the warp loop
    Frame* enter(uint32_t function, Frame* parent);
    void leave(Frame* frame);
    // Lanes of a group come to a barrier; true when that completes it (the waiting groups are then free to go on).
    bool arrive(Warp& warp, uint32_t number, uint32_t expected, uint32_t mask, bool reduce, uint32_t votes);
    // After lanes ended: barriers that wait for nobody else any more.
    void lanes_ended();

    [[nodiscard]] const Dim3& index() const { return index_; }
    [[nodiscard]] uint32_t threads() const { return threads_; }
    [[nodiscard]] const std::vector<Warp>& warps() const { return warps_; }
    [[nodiscard]] bool stalled() const { return stalled_; }

  private:
    uint32_t live_threads() const;
    bool complete(uint32_t number);
    void shape_warps(const Grid& grid);
    void map_local(uint64_t bytes);

    Grid* grid_ = nullptr;
    Dim3 index_;
    Dim3 shape_{0, 0, 0};
    uint32_t threads_ = 0;
    Context context_;
    std::vector<Warp> warps_;
    std::array<Barrier, cluster_barrier + 1> barriers_;
    std::vector<std::vector<Frame*>> free_frames_;
    std::vector<std::unique_ptr<Frame>> frames_;
    Arena arena_;
    std::byte* shared_ = nullptr;
    std::byte* local_ = nullptr;
    uint64_t local_mapped_ = 0;
    uint64_t grid_number_ = 0;
    uint32_t idle_turns_ = 0;
    bool stalled_ = false;
};

}  // namespace softgpu
