// Pinned host memory that copies pass through, chunk by chunk, so that the network and the GPU's copy engine work at
// the same time. Blocks are made when first needed and reused when the copy out of them (or into them) is complete.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "driver.h"

namespace gpuferry::worker {

// One block: `event` is recorded behind the copy that uses it.
struct StagingBlock {
    char* memory = nullptr;
    size_t size = 0;
    CUevent event = nullptr;
    CUcontext context = nullptr;  // of the event
};

struct Staged {
    std::unique_ptr<StagingBlock> block;
    size_t size = 0;  // bytes of it that the copy fills
};

class Staging {
  public:
    // A block of at least `size` bytes, at most `copy_chunk`, free for use in the current context `context`. When too
    // many are in use it waits for the oldest upload. Null with `failure` set when the driver gives none.
    std::unique_ptr<StagingBlock> take(size_t size, CUcontext context, CUresult& failure, bool may_wait = true);
    // The upload out of the block has been issued, with its event behind it.
    void uploading(std::unique_ptr<StagingBlock> block);
    // The block is free; from any thread.
    void give_back(std::unique_ptr<StagingBlock> block);
    // Waits for all uploads: before what they fill goes at once. The client's copies were blocking ones, maybe.
    void finish_uploads();
    // The context is about to end, and its events with it.
    void forget(CUcontext context);

  private:
    void collect(bool wait);

    std::mutex lock_;
    std::vector<std::unique_ptr<StagingBlock>> free_;
    std::deque<std::unique_ptr<StagingBlock>> uploading_;
    size_t total_ = 0;  // bytes of all blocks
};

}  // namespace gpuferry::worker
