// A device: its properties, its memory, its primary context, its memory pools.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "config.h"
#include "device/memory.h"
#include "usage.h"

namespace softgpu {

// The device's memory: one memfd mapped whole. Address space is plentiful, so only the configured size limits it.
class DeviceMemory {
  public:
    // `usage` counts it, together with that of other processes on the same device.
    DeviceMemory(uint64_t capacity, DeviceUsage& usage);
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    // An address of at least `size` bytes, charged as size rounded up to the granule. Throws OUT_OF_MEMORY.
    uint64_t take(uint64_t size, uint64_t alignment = allocation_granule);
    void give_back(uint64_t address, uint64_t size);
    // Counts memory that lives elsewhere (an exportable cuMemCreate) against the capacity. Throws OUT_OF_MEMORY.
    void charge(uint64_t bytes);
    void discharge(uint64_t bytes);

    [[nodiscard]] uint64_t capacity() const { return capacity_; }
    // Bytes that all processes use.
    [[nodiscard]] uint64_t used() const { return usage_.used_bytes(); }
    [[nodiscard]] int descriptor() const { return descriptor_; }
    [[nodiscard]] uint64_t base() const { return base_; }
    [[nodiscard]] bool holds(uint64_t address) const { return address - base_ < span_; }

  private:
    const uint64_t capacity_;
    DeviceUsage& usage_;
    uint64_t span_ = 0, base_ = 0;
    int descriptor_ = -1;
    mutable std::mutex mutex_;
    std::unique_ptr<RangeAllocator> ranges_;
};

class Device {
  public:
    Device(int ordinal, const DeviceConfig& config);

    [[nodiscard]] int ordinal() const { return ordinal_; }
    [[nodiscard]] const DeviceConfig& config() const { return config_; }
    DeviceMemory& memory() { return memory_; }
    DeviceUsage& usage() { return usage_; }

    // Allocates and enters it in the memory map. `context` may be null for memory that no context owns.
    AllocationPtr allocate(const Context* context, uint64_t size, MemoryKind kind,
                           uint64_t alignment = allocation_granule, bool internal = false);
    // Takes an allocation of `allocate` out of the map and returns its memory.
    void release(const AllocationPtr& allocation);

    // The one primary context; inactive until retained. Its handle never changes.
    [[nodiscard]] const std::shared_ptr<Context>& primary() const { return primary_; }

    [[nodiscard]] std::shared_ptr<MemoryPool> default_pool() const { return default_pool_; }
    [[nodiscard]] std::shared_ptr<MemoryPool> graph_pool() const { return graph_pool_; }
    [[nodiscard]] std::shared_ptr<MemoryPool> current_pool() const;
    void set_current_pool(std::shared_ptr<MemoryPool> pool);

  private:
    friend void initialise_devices();
    const int ordinal_;
    const DeviceConfig config_;
    DeviceUsage usage_;
    DeviceMemory memory_;
    std::shared_ptr<Context> primary_;
    mutable std::mutex mutex_;
    std::shared_ptr<MemoryPool> default_pool_, graph_pool_, current_pool_;
};

// Makes the devices that the configuration names; cuInit calls it once.
void initialise_devices();
bool devices_initialised();
[[nodiscard]] int device_count();
// Throws DriverError(CUDA_ERROR_INVALID_DEVICE).
Device& require_device(CUdevice ordinal);

// Backs cuDeviceGetAttribute; throws CUDA_ERROR_INVALID_VALUE for an attribute that does not exist.
int device_attribute(const Device& device, CUdevice_attribute attribute);

}  // namespace softgpu
