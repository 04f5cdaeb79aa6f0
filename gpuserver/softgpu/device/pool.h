// Memory pools: stream-ordered allocation.
//
// A pool takes chunks from its device and hands out pieces. A piece that was freed can be handed out again once its
// free has had its turn; chunks without pieces go back to the device when the pool holds more than its threshold.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "device/device.h"
#include "device/handle.h"

namespace softgpu {

class MemoryPool final : public Object, public std::enable_shared_from_this<MemoryPool> {
  public:
    using Handle = CUmemoryPool;
    static constexpr Kind kind = Kind::memory_pool;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;
    enum class Role { default_pool, graph, created };

    // Makes and publishes one. `maximum` 0: as much as the device has. `exportable`: chunks lie in the pool's own file.
    static std::shared_ptr<MemoryPool> create(Device& device, Role role, uint64_t maximum = 0, bool exportable = false);
    // One whose memory lies on the host: no device reaches it before set_access.
    static std::shared_ptr<MemoryPool> create_on_host(Device& device, Role role, const CUmemLocation& location,
                                                      uint64_t maximum = 0);
    // The host's own pool, which is always there, and the one in use.
    static std::shared_ptr<MemoryPool> default_of_host();
    static std::shared_ptr<MemoryPool> current_of_host();
    static void set_current_of_host(std::shared_ptr<MemoryPool> pool);
    // The pool behind another process's descriptor: only pieces imported by pointer.
    static std::shared_ptr<MemoryPool> import(Device& device, int descriptor);
    MemoryPool(Device& device, Role role, uint64_t maximum);
    ~MemoryPool() override;

    // Of one on the host: where it was made.
    [[nodiscard]] Device& device() const { return device_; }
    [[nodiscard]] const CUmemLocation& location() const { return location_; }
    [[nodiscard]] bool on_host() const { return location_.type != CU_MEM_LOCATION_TYPE_DEVICE; }
    [[nodiscard]] Role role() const { return role_; }
    // Throws OUT_OF_MEMORY.
    AllocationPtr allocate(uint64_t size);
    // The piece's free was issued; its turn has not come. (Counted, so that an allocation can wait for it.)
    void begin_free(const AllocationPtr& allocation);
    // The free's turn has come. (A graph's memory can be reached no more, but stays the graph's.)
    void finish_free(const AllocationPtr& allocation);
    // The piece may be handed out again.
    void give_back(const Allocation& piece);
    // Returns unused chunks to the device while the pool holds more than `keep` bytes.
    void trim(uint64_t keep);
    void trim_to_threshold() { trim(release_threshold.load()); }

    void set_access(int ordinal, CUmemAccess_flags access);
    [[nodiscard]] CUmemAccess_flags access(int ordinal) const;

    struct Usage {
        uint64_t reserved, reserved_high, used, used_high;
    };
    [[nodiscard]] Usage usage() const;
    void reset_reserved_high();
    void reset_used_high();

    // --- sharing with other processes
    [[nodiscard]] bool exportable() const { return exportable_; }
    [[nodiscard]] bool imported() const { return imported_; }
    // A descriptor of the pool's file for another process. Throws OPERATING_SYSTEM.
    [[nodiscard]] int duplicate_descriptor() const;
    // Where a piece lies in the pool's file. Throws INVALID_VALUE for what is no piece of it.
    [[nodiscard]] uint64_t file_offset(const Allocation& allocation) const;
    AllocationPtr import_piece(uint64_t offset, uint64_t size);

    // --- attributes
    std::atomic<uint64_t> release_threshold{0};
    std::atomic<int> reuse_follow_events{1}, reuse_opportunistic{1}, reuse_internal_dependencies{1};

  private:
    struct Chunk {
        uint64_t begin, size, file_offset;
        RangeAllocator pieces;
        bool own_mapping;
    };
    AllocationPtr try_allocate(uint64_t size);
    AllocationPtr allocate_on_host(uint64_t size);
    Chunk& grow(uint64_t size);
    void drop(const Chunk& chunk);

    Device& device_;
    const Role role_;
    const uint64_t maximum_;
    CUmemLocation location_{};
    std::map<uint64_t, std::weak_ptr<Allocation>> on_host_;  // by address
    bool exportable_ = false, imported_ = false;
    int descriptor_ = -1;
    uint64_t file_size_ = 0;
    std::atomic<uint64_t> readable_by_, writable_by_;

    mutable std::mutex mutex_;
    std::condition_variable freed_;
    std::map<uint64_t, Chunk> chunks_;  // by address
    uint64_t reserved_ = 0, reserved_high_ = 0, used_ = 0, used_high_ = 0;
    size_t pending_frees_ = 0;
};

// At a point of synchronisation: the device's pools give back what is above their thresholds.
void trim_pools(const Device& device);

}  // namespace softgpu
