// Virtual memory management on memory files: a reservation is PROT_NONE, a mapping is mmap over it.
#include "device/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "device/context.h"
#include "device/error.h"
#include "device/shared_file.h"
#include "device/sizes.h"

namespace softgpu {
namespace {

// At the end of an exportable allocation's file, so that an importer knows what it is.
struct Trailer {
    uint64_t magic;
    uint64_t size;
    CUmemAllocationProp properties;
};
constexpr uint64_t trailer_magic = 0x67706668'616e646c;

struct Reservations {
    std::mutex mutex;
    std::map<uint64_t, uint64_t> by_begin;  // → size
};

Reservations& reservations() {
    static auto& all = *new Reservations;
    return all;
}

// Needs the lock. Whether [begin, begin + size) lies within one reservation.
bool reserved(const Reservations& all, uint64_t begin, uint64_t size) {
    auto after = all.by_begin.upper_bound(begin);
    if (after == all.by_begin.begin()) return false;
    --after;
    return begin - after->first <= after->second && size <= after->second - (begin - after->first);
}

void check_multiple(uint64_t value, const char* what) {
    check_value(value != 0 && value % mapping_granule == 0, what);
}

bool exportable(const CUmemAllocationProp& properties) {
    return properties.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

}  // namespace

std::shared_ptr<MemoryHandle> MemoryHandle::create(Device* device, uint64_t size,
                                                   const CUmemAllocationProp& properties) {
    auto handle = std::shared_ptr<MemoryHandle>(new MemoryHandle);
    handle->size_ = size;
    handle->device_ = device;
    handle->properties_ = properties;
    if (device && !exportable(properties)) {
        handle->taken_ = device->memory().take(size, mapping_granule);
        handle->charged_ = true;
        handle->descriptor_ = device->memory().descriptor();
        handle->file_offset_ = handle->taken_ - device->memory().base();
    } else {
        if (device) device->memory().charge(size);
        handle->charged_ = device != nullptr;
        const Trailer trailer{trailer_magic, size, properties};
        handle->descriptor_ = make_memory_file("gpuferry-memory", size + sizeof trailer);
        handle->own_file_ = true;
        if (pwrite(handle->descriptor_, &trailer, sizeof trailer, static_cast<off_t>(size)) != sizeof trailer) {
            throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::strerror(errno));
        }
    }
    publish(handle);
    return handle;
}

std::shared_ptr<MemoryHandle> MemoryHandle::import(int descriptor) {
    struct stat about{};
    Trailer trailer{};
    if (fstat(descriptor, &about) != 0 || about.st_size < static_cast<off_t>(sizeof trailer) ||
        pread(descriptor, &trailer, sizeof trailer, about.st_size - static_cast<off_t>(sizeof trailer)) !=
            sizeof trailer ||
        trailer.magic != trailer_magic || trailer.size + sizeof trailer != static_cast<uint64_t>(about.st_size)) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the descriptor is of no exported allocation");
    }
    auto handle = std::shared_ptr<MemoryHandle>(new MemoryHandle);
    handle->size_ = trailer.size;
    handle->properties_ = trailer.properties;
    if (trailer.properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
        handle->device_ = &require_device(trailer.properties.location.id);
    }
    handle->descriptor_ = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (handle->descriptor_ < 0) throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::strerror(errno));
    handle->own_file_ = true;
    publish(handle);
    return handle;
}

MemoryHandle::~MemoryHandle() {
    if (taken_) device_->memory().give_back(taken_, size_);
    if (own_file_) {
        close(descriptor_);
        if (charged_) device_->memory().discharge(size_);
    }
}

int MemoryHandle::export_descriptor() const {
    if (!own_file_ || !exportable(properties_)) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the allocation was not created to be exported");
    }
    const int copy = fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::strerror(errno));
    return copy;
}

CUdeviceptr reserve_addresses(uint64_t size, uint64_t alignment, CUdeviceptr wanted) {
    check_multiple(size, "size is no multiple of the granularity");
    check_value((alignment & (alignment - 1)) == 0, "alignment is no power of two");
    alignment = std::max(alignment, mapping_granule);
    check_value(size < uint64_t{1} << 47 && alignment < uint64_t{1} << 46, "no such address space");
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint64_t begin = 0;
    if (wanted && wanted % alignment == 0) {  // a wish, not a demand
        void* place = mmap(reinterpret_cast<void*>(wanted), size, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (place != MAP_FAILED && reinterpret_cast<uint64_t>(place) == wanted)
            begin = wanted;
        else if (place != MAP_FAILED)
            munmap(place, size);
    }
    if (!begin) {
        void* place = mmap(nullptr, size + alignment, PROT_NONE, flags, -1, 0);
        if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::strerror(errno));
        const auto at = reinterpret_cast<uint64_t>(place);
        begin = round_up(at, alignment);
        if (begin > at) munmap(place, begin - at);
        if (at + alignment > begin) munmap(reinterpret_cast<void*>(begin + size), at + alignment - begin);
    }
    Reservations& all = reservations();
    const std::lock_guard lock(all.mutex);
    all.by_begin.emplace(begin, size);
    return begin;
}

void free_addresses(CUdeviceptr begin, uint64_t size) {
    Reservations& all = reservations();
    const std::lock_guard lock(all.mutex);
    const auto found = all.by_begin.find(begin);
    check_value(found != all.by_begin.end() && found->second == size, "not what cuMemAddressReserve returned");
    check_value(!memory_map().overlaps(begin, size), "something is still mapped there");
    munmap(reinterpret_cast<void*>(begin), size);
    all.by_begin.erase(found);
}

bool in_reservation(uint64_t address) {
    Reservations& all = reservations();
    const std::lock_guard lock(all.mutex);
    return reserved(all, address, 1);
}

void map_memory(CUdeviceptr begin, uint64_t size, uint64_t offset, const std::shared_ptr<MemoryHandle>& handle) {
    check_multiple(size, "size is no multiple of the granularity");
    check_value(begin % mapping_granule == 0, "the address is no multiple of the granularity");
    check_value(offset % mapping_granule == 0 && offset <= handle->size() && size <= handle->size() - offset,
                "the part lies outside the allocation");
    Reservations& all = reservations();
    const std::lock_guard lock(all.mutex);
    check_value(reserved(all, begin, size), "the addresses are not reserved");
    check_value(!memory_map().overlaps(begin, size), "something is mapped there already");
    // Readable and writable from the start: which device may touch it is the memory map's to say.
    void* place =
        mmap(reinterpret_cast<void*>(begin), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
             handle->descriptor(), static_cast<off_t>(handle->file_offset() + offset));
    if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_MAP_FAILED, std::strerror(errno));
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = begin;
    allocation->size = size;
    allocation->kind = MemoryKind::mapping;
    allocation->device = handle->device();
    allocation->backing = handle;
    allocation->backing_offset = offset;
    allocation->buffer_id = new_buffer_id();
    memory_map().insert(allocation);
}

void unmap_memory(CUdeviceptr begin, uint64_t size) {
    check_multiple(size, "size is no multiple of the granularity");
    Reservations& all = reservations();
    const std::lock_guard lock(all.mutex);
    check_value(reserved(all, begin, size), "the addresses are not reserved");
    const auto mappings = memory_map().within(begin, size);
    uint64_t next = begin;
    for (const auto& mapping : mappings) {  // whole mappings, without a gap
        check_value(mapping->begin == next, "the range is not what was mapped");
        next = mapping->end();
    }
    check_value(next == begin + size, "the range is not what was mapped");
    for (const auto& mapping : mappings) memory_map().erase(mapping);
    void* place = mmap(reinterpret_cast<void*>(begin), size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::strerror(errno));
}

void set_mapping_access(CUdeviceptr begin, uint64_t size, const CUmemAccessDesc* descriptions, size_t count) {
    const auto mappings = memory_map().within(begin, size);
    uint64_t next = begin;
    for (const auto& mapping : mappings) {
        check_value(mapping->kind == MemoryKind::mapping && mapping->begin <= next, "the range is not mapped");
        next = mapping->end();
    }
    check_value(size != 0 && next >= checked_sum(begin, size, "the range wraps around"), "the range is not mapped");
    for (size_t i = 0; i < count; ++i) {
        const CUmemAccessDesc& description = descriptions[i];
        check_value(description.flags == CU_MEM_ACCESS_FLAGS_PROT_NONE ||
                        description.flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
                        description.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
                    "unknown access flags");
        if (description.location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
            check_value(description.location.type == CU_MEM_LOCATION_TYPE_HOST ||
                            description.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA,
                        "unknown location");
            continue;  // the host reaches it in any case
        }
        const uint64_t bit = uint64_t{1} << require_device(description.location.id).ordinal();
        for (const auto& mapping : mappings) {
            const bool readable = description.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
            const bool writable = description.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            readable ? mapping->readable_by.fetch_or(bit) : mapping->readable_by.fetch_and(~bit);
            writable ? mapping->writable_by.fetch_or(bit) : mapping->writable_by.fetch_and(~bit);
        }
    }
    memory_map().changed();
}

}  // namespace softgpu
