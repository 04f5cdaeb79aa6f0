// Pinned host memory of this process: allocated by the driver API or registered with it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "contexts.h"

namespace gpuferry {

struct PinnedBlock {
    size_t size = 0;  // bytes
    unsigned flags = 0;
    bool registered = false;  // by cuMemHostRegister, else allocated
    const Context* context = nullptr;
    uint64_t device_address = 0;  // of registered memory that kernels reach: where its twin is
};

class HostMemory {
  public:
    // Whether all of these bytes are pinned.
    bool is_pinned(const void* start, size_t size);
    [[nodiscard]] bool any() const { return count_.load(std::memory_order_relaxed) != 0; }
    [[nodiscard]] bool any_registered() const { return registered_.load(std::memory_order_relaxed) != 0; }
    // False when part of the range is pinned already.
    bool add(const void* start, const PinnedBlock& block);
    // The block that starts here is gone; false when there is none of this kind.
    bool remove(const void* start, bool registered, PinnedBlock& block);
    void set_device_address(uintptr_t base, uint64_t address);
    // All blocks of a context that ends.
    void forget_context(const Context* context);
    // The block that holds this address.
    bool find(const void* address, uintptr_t& base, PinnedBlock& block);

  private:
    std::mutex lock_;
    std::atomic<size_t> count_ = 0, registered_ = 0;
    std::map<uintptr_t, PinnedBlock> blocks_;
};

HostMemory& host_memory();

// Memory of the host window goes: its pages are dropped, its addresses are free again.
void drop_host_pages(void* memory, uint64_t size);

}  // namespace gpuferry
