// Virtual memory management: address reservations, physical allocations, and mapping one into the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "device/device.h"
#include "device/handle.h"

namespace softgpu {

// A physical allocation (cuMemCreate). References: one of the handle per create, import or retain, one of each mapping.
class MemoryHandle final : public Object {
  public:
    using Handle = CUmemGenericAllocationHandle;
    static constexpr Kind kind = Kind::memory_handle;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;

    // Throws OUT_OF_MEMORY.
    static std::shared_ptr<MemoryHandle> create(Device* device, uint64_t size, const CUmemAllocationProp& properties);
    // From a descriptor that cuMemExportToShareableHandle gave, here or in another process. Throws INVALID_VALUE.
    static std::shared_ptr<MemoryHandle> import(int descriptor);
    ~MemoryHandle() override;

    [[nodiscard]] uint64_t size() const { return size_; }
    [[nodiscard]] Device* device() const { return device_; }  // null: host memory
    [[nodiscard]] const CUmemAllocationProp& properties() const { return properties_; }
    [[nodiscard]] int descriptor() const { return descriptor_; }
    [[nodiscard]] uint64_t file_offset() const { return file_offset_; }
    // A descriptor for another process. Throws INVALID_VALUE unless it was created to be exported.
    [[nodiscard]] int export_descriptor() const;

    std::atomic<int> references{1};  // of the program, through the handle

  private:
    MemoryHandle() = default;
    uint64_t size_ = 0;
    Device* device_ = nullptr;
    CUmemAllocationProp properties_{};
    int descriptor_ = -1;    // the device's file, or its own
    bool own_file_ = false;  // descriptor_ is its own
    bool charged_ = false;
    uint64_t file_offset_ = 0;
    uint64_t taken_ = 0;  // address taken from the device's memory
};

// All throw DriverError with CUDA's code.
CUdeviceptr reserve_addresses(uint64_t size, uint64_t alignment, CUdeviceptr wanted);
void free_addresses(CUdeviceptr begin, uint64_t size);
void map_memory(CUdeviceptr begin, uint64_t size, uint64_t offset, const std::shared_ptr<MemoryHandle>& handle);
void unmap_memory(CUdeviceptr begin, uint64_t size);
void set_mapping_access(CUdeviceptr begin, uint64_t size, const CUmemAccessDesc* descriptions, size_t count);
// Whether the address lies in a reservation.
bool in_reservation(uint64_t address);

}  // namespace softgpu
