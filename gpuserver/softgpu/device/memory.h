// Memory that kernels may touch: who owns it, where it is, and the map that finds it by address.
//
// A device's memory is one memfd, mapped whole at the device's arena; device addresses are addresses of this process.
// Other memory (pinned, registered, mapped, imported) lies where the host has it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "device/cuda_types.h"
#include "engine/engine.h"

namespace softgpu {

class Context;
class Device;
class MemoryPool;
class MemoryHandle;

inline constexpr int max_devices = 64;
inline constexpr uint64_t allocation_granule = 512;             // bytes; every device address is a multiple
inline constexpr uint64_t mapping_granule = uint64_t{2} << 20;  // bytes; cuMemCreate, cuMemAddressReserve

enum class MemoryKind : uint8_t {
    device,           // cuMemAlloc, arrays, module variables
    pool,             // cuMemAllocAsync
    managed,          // cuMemAllocManaged, managed module variables
    host_allocated,   // cuMemHostAlloc
    host_registered,  // cuMemHostRegister
    mapping,          // cuMemMap
    imported,         // cuIpcOpenMemHandle, cuMemPoolImportPointer
};

// One contiguous piece of memory. Immutable but for what is atomic.
struct Allocation {
    uint64_t begin = 0;
    uint64_t size = 0;     // bytes, as the program asked for
    uint64_t charged = 0;  // bytes of the device's memory it takes
    MemoryKind kind = MemoryKind::device;
    Device* device = nullptr;  // where it lives; for host memory: the device of the context that made it
    uint64_t context_id = 0;   // the owner; 0 for none
    CUcontext context = nullptr;
    unsigned flags = 0;          // cuMemHostAlloc's, cuMemHostRegister's or cuMemAllocManaged's
    uint64_t buffer_id = 0;      // CU_POINTER_ATTRIBUTE_BUFFER_ID
    bool internal = false;       // an array or a module's variable: cuMemFree refuses it
    uint64_t mapped_length = 0;  // bytes to unmap (host_allocated, imported)
    std::shared_ptr<MemoryPool> pool;
    std::shared_ptr<void> keeper;           // of a graph's memory while it is allocated: the graph's claim on it
    std::shared_ptr<MemoryHandle> backing;  // of a mapping
    uint64_t backing_offset = 0;
    std::atomic<uint64_t> readable_by{0}, writable_by{0};  // mapping and pool: a bit per device
    std::atomic<bool> sync_memops{false};
    std::atomic<bool> freeing{false};  // cuMemFreeAsync was called, its turn has not come
    // Managed memory: what cuMemAdvise said.
    std::atomic<int> read_mostly{0}, preferred_location{CU_DEVICE_INVALID}, last_prefetch{CU_DEVICE_INVALID};
    std::atomic<uint64_t> accessed_by{0};
    std::atomic<bool> accessed_by_host{false};

    [[nodiscard]] uint64_t end() const { return begin + size; }
    [[nodiscard]] bool is_host() const {
        return kind == MemoryKind::host_allocated || kind == MemoryKind::host_registered;
    }
};
using AllocationPtr = std::shared_ptr<Allocation>;

// Every allocation of the process, by address.
class MemoryMap {
  public:
    // Throws CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED when it overlaps another.
    void insert(const AllocationPtr& allocation);
    // Takes it out; null when no allocation begins there.
    AllocationPtr erase(uint64_t begin);
    [[nodiscard]] AllocationPtr find(uint64_t address) const;
    // Whether any allocation overlaps [begin, begin + size).
    [[nodiscard]] bool overlaps(uint64_t begin, uint64_t size) const;
    // Every allocation that overlaps [begin, begin + size), in order of address.
    [[nodiscard]] std::vector<AllocationPtr> within(uint64_t begin, uint64_t size) const;
    [[nodiscard]] std::vector<AllocationPtr> owned_by(uint64_t context_id) const;
    // The part of the map that a kernel of `context` may touch around `address`.
    [[nodiscard]] Range accessible(uint64_t address, const Context& context) const;

    [[nodiscard]] uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
    // Access rights shrank: cached ranges must go.
    void changed() { generation_.fetch_add(1, std::memory_order_acq_rel); }

  private:
    mutable std::shared_mutex mutex_;
    std::map<uint64_t, AllocationPtr> by_begin_;
    std::atomic<uint64_t> generation_{1};
};

MemoryMap& memory_map();

// A number for CU_POINTER_ATTRIBUTE_BUFFER_ID, unique in the process.
uint64_t new_buffer_id();

// Hands out ranges of [0, size): best fit, lowest address first among equals. Not thread-safe.
class RangeAllocator {
  public:
    explicit RangeAllocator(uint64_t size);
    // Throws DriverError(OUT_OF_MEMORY) when no free range fits. `alignment` is a power of two.
    uint64_t allocate(uint64_t size, uint64_t alignment);
    void release(uint64_t begin, uint64_t size);
    [[nodiscard]] uint64_t used() const { return used_; }

  private:
    uint64_t used_ = 0;
    std::map<uint64_t, uint64_t> free_;  // begin → size
};

}  // namespace softgpu
