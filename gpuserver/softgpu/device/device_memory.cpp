// A device's memory: a memfd as large as its address space, mapped once, emptied page by page as memory is freed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "device/context.h"
#include "device/device.h"
#include "device/error.h"
#include "device/sizes.h"

namespace softgpu {
namespace {

uint64_t page_bytes() {
    static const auto bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

std::atomic<uint64_t> next_buffer_id{1};

}  // namespace

DeviceMemory::DeviceMemory(uint64_t capacity, DeviceUsage& usage) : capacity_(capacity), usage_(usage) {
    descriptor_ = memfd_create("gpuferry-device", MFD_CLOEXEC);
    if (descriptor_ < 0) {
        throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::string("memfd_create: ") + std::strerror(errno));
    }
    // The more address space, the less fragmentation counts; where it is limited (ulimit -v), take what there is.
    for (uint64_t factor = 16; factor >= 1; factor /= 2) {
        span_ = round_up(capacity * factor, mapping_granule);
        if (ftruncate(descriptor_, static_cast<off_t>(span_)) != 0) continue;
        const uint64_t reserved = span_ + mapping_granule;
        // Where nothing else of a process lies, if it is free: a program on another machine that is to have managed
        // memory at the same address finds it free there, too.
        static std::atomic<uint64_t> next_hint{0x2800'0000'0000};
        void* hint = reinterpret_cast<void*>(next_hint.fetch_add(round_up(reserved, uint64_t{1} << 40)));
        void* place = mmap(hint, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED) continue;
        const uint64_t aligned = round_up(reinterpret_cast<uint64_t>(place), mapping_granule);
        void* mapped = mmap(reinterpret_cast<void*>(aligned), span_, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_NORESERVE | MAP_FIXED, descriptor_, 0);
        if (mapped == MAP_FAILED) {
            munmap(place, reserved);
            continue;
        }
        // Programs fork; what the child's copy-on-write would cost and share is nothing it may use.
        madvise(mapped, span_, MADV_DONTDUMP);
        base_ = aligned;
        break;
    }
    if (!base_) {
        close(descriptor_);
        throw DriverError(CUDA_ERROR_OUT_OF_MEMORY,
                          "cannot reserve address space for device memory: " + std::string(std::strerror(errno)));
    }
    ranges_ = std::make_unique<RangeAllocator>(span_);
}

void DeviceMemory::charge(uint64_t bytes) {
    if (!usage_.reserve(bytes, capacity_)) {
        throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::to_string(bytes) + " bytes wanted, " +
                                                        std::to_string(capacity_ - std::min(capacity_, used())) +
                                                        " free");
    }
}

void DeviceMemory::discharge(uint64_t bytes) {
    usage_.release(bytes);
}

uint64_t DeviceMemory::take(uint64_t size, uint64_t alignment) {
    if (size > capacity_) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "more than the device has");
    const uint64_t rounded = round_up(std::max<uint64_t>(size, 1), allocation_granule);
    charge(rounded);
    try {
        const std::lock_guard lock(mutex_);
        return base_ + ranges_->allocate(rounded, std::max(alignment, allocation_granule));
    } catch (...) {
        discharge(rounded);
        throw;
    }
}

void DeviceMemory::give_back(uint64_t address, uint64_t size) {
    const uint64_t rounded = round_up(std::max<uint64_t>(size, 1), allocation_granule);
    const uint64_t begin = address - base_, end = begin + rounded;
    const uint64_t first_page = round_up(begin, page_bytes()), last_page = end / page_bytes() * page_bytes();
    if (last_page > first_page) {
        fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first_page),
                  static_cast<off_t>(last_page - first_page));
    }
    const std::lock_guard lock(mutex_);
    ranges_->release(begin, rounded);
    discharge(rounded);
}

uint64_t new_buffer_id() {
    return next_buffer_id.fetch_add(1);
}

AllocationPtr Device::allocate(const Context* context, uint64_t size, MemoryKind kind, uint64_t alignment,
                               bool internal) {
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = memory_.take(size, alignment);
    allocation->size = size;
    allocation->charged = round_up(std::max<uint64_t>(size, 1), allocation_granule);
    allocation->kind = kind;
    allocation->device = this;
    allocation->internal = internal;
    allocation->buffer_id = new_buffer_id();
    if (context) {
        allocation->context_id = context->id();
        allocation->context = handle_of(*context);
    }
    memory_map().insert(allocation);
    return allocation;
}

void Device::release(const AllocationPtr& allocation) {
    if (memory_map().erase(allocation)) memory_.give_back(allocation->begin, allocation->size);
}

}  // namespace softgpu
