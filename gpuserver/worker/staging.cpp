#include "staging.h"

#include <algorithm>

#include "wire.h"

namespace gpuferry::worker {
namespace {

constexpr size_t small_block = 64u << 10;
constexpr size_t most_staging = 256u << 20;

}  // namespace

// Uploads complete mostly in the order of their issue; one that is not complete keeps those behind it waiting.
void Staging::collect(bool wait) {
    while (!uploading_.empty()) {
        StagingBlock& oldest = *uploading_.front();
        if (driver.cuEventQuery(oldest.event) == CUDA_ERROR_NOT_READY) {
            if (!wait) return;
            driver.cuEventSynchronize(oldest.event);
            wait = false;
        }
        free_.push_back(std::move(uploading_.front()));
        uploading_.pop_front();
    }
}

std::unique_ptr<StagingBlock> Staging::take(size_t size, CUcontext context, CUresult& failure, bool may_wait) {
    const std::lock_guard held(lock_);
    const size_t wanted = size <= small_block ? small_block : copy_chunk;
    collect(may_wait && total_ + wanted > most_staging);
    for (auto at = free_.rbegin(); at != free_.rend(); ++at) {
        if ((*at)->size != wanted || (*at)->context != context) continue;
        auto block = std::move(*at);
        free_.erase(std::next(at).base());
        return block;
    }
    auto block = std::make_unique<StagingBlock>();
    block->size = wanted;
    block->context = context;
    void* memory = nullptr;
    failure = driver.cuMemHostAlloc(&memory, wanted, CU_MEMHOSTALLOC_PORTABLE);
    if (failure) return nullptr;
    block->memory = static_cast<char*>(memory);
    failure = driver.cuEventCreate(&block->event, CU_EVENT_DISABLE_TIMING);
    if (failure) {
        driver.cuMemFreeHost(memory);
        return nullptr;
    }
    total_ += wanted;
    return block;
}

void Staging::uploading(std::unique_ptr<StagingBlock> block) {
    const std::lock_guard held(lock_);
    uploading_.push_back(std::move(block));
}

void Staging::give_back(std::unique_ptr<StagingBlock> block) {
    const std::lock_guard held(lock_);
    free_.push_back(std::move(block));
}

void Staging::finish_uploads() {
    const std::lock_guard held(lock_);
    while (!uploading_.empty()) collect(true);
}

void Staging::forget(CUcontext context) {
    finish_uploads();
    const std::lock_guard held(lock_);
    std::erase_if(free_, [&](const std::unique_ptr<StagingBlock>& block) {
        if (block->context != context) return false;
        driver.cuEventDestroy_v2(block->event);
        driver.cuMemFreeHost(block->memory);
        total_ -= block->size;
        return true;
    });
}

}  // namespace gpuferry::worker
