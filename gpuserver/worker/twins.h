// Host memory that kernels reach: mapped, registered and managed memory has a twin here, of the same bytes.
//
// Both ends keep what they last agreed on. The client sends what its program has changed before device work is posted;
// with the replies that make device work visible go the bytes that the device has changed since.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "changed_bytes.h"
#include "driver.h"
#include "quota.h"

namespace gpuferry::worker {

class Twins {
  public:
    // Pinned memory of this size at this address. `device` is charged where `charged` says so (managed memory).
    CUresult make(uint64_t address, uint64_t size, bool charged, size_t device, Quota& quota);
    // Memory of the driver's own that host and device share: a managed variable.
    void adopt(uint64_t address, uint64_t size);
    CUresult end(uint64_t address, Quota& quota);
    // The client's program changed these bytes.
    CUresult write(uint64_t address, const ChangedBytes& changed, std::span<const char> bytes);
    // Whether one twin holds the whole range: the only host memory that a client may name.
    [[nodiscard]] bool holds(uint64_t address, uint64_t size);
    [[nodiscard]] bool any() const { return !twins_.empty(); }
    // Calls `send` with each stretch that the device has changed.
    using Send = std::function<void(uint64_t address, const ChangedBytes& changed, std::span<const char> bytes)>;
    void collect(const Send& send);

  private:
    struct Twin {
        uint64_t size = 0;
        std::unique_ptr<char[]> known;
        bool charged = false;
        size_t device = 0;
        bool adopted = false;  // not made here
    };
    std::mutex lock_;
    std::map<uint64_t, Twin> twins_;
};

}  // namespace gpuferry::worker
