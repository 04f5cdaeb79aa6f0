// Pinned host memory of this process: allocated by the driver API or registered with it.
#pragma once

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
};

class HostMemory {
  public:
    // Whether all of these bytes are pinned.
    bool is_pinned(const void* start, size_t size);
    // False when part of the range is pinned already.
    bool add(const void* start, const PinnedBlock& block);
    // The block that starts here is gone; false when there is none of this kind.
    bool remove(const void* start, bool registered, PinnedBlock& block);
    // The block that holds this address.
    bool find(const void* address, uintptr_t& base, PinnedBlock& block);

  private:
    std::mutex lock_;
    std::map<uintptr_t, PinnedBlock> blocks_;
};

HostMemory& host_memory();

}  // namespace gpuferry
