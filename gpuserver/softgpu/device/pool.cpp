// Memory pools.
#include "device/pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "device/error.h"
#include "device/shared_file.h"
#include "device/sizes.h"

namespace softgpu {
namespace {

constexpr uint64_t chunk_bytes = uint64_t{32} << 20;  // a pool grows by this, or by what one piece needs

struct AllPools {
    std::mutex mutex;
    std::vector<std::weak_ptr<MemoryPool>> pools;
};

AllPools& all_pools() {
    static auto& all = *new AllPools;
    return all;
}

}  // namespace

MemoryPool::MemoryPool(Device& device, Role role, uint64_t maximum)
    : device_(device),
      role_(role),
      maximum_(maximum ? maximum : UINT64_MAX),
      readable_by_(uint64_t{1} << device.ordinal()),
      writable_by_(uint64_t{1} << device.ordinal()) {
    location_.type = CU_MEM_LOCATION_TYPE_DEVICE;
    location_.id = device.ordinal();
}

MemoryPool::~MemoryPool() {
    for (const auto& [begin, chunk] : chunks_) drop(chunk);
    if (descriptor_ >= 0) close(descriptor_);
}

std::shared_ptr<MemoryPool> MemoryPool::create(Device& device, Role role, uint64_t maximum, bool exportable) {
    auto pool = std::make_shared<MemoryPool>(device, role, maximum);
    if (exportable) {
        pool->descriptor_ = make_memory_file("gpuferry-pool", 0);
        pool->exportable_ = true;
    }
    publish(pool);
    AllPools& all = all_pools();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.pools, [](const auto& weak) { return weak.expired(); });
    all.pools.push_back(pool);
    return pool;
}

std::shared_ptr<MemoryPool> MemoryPool::import(Device& device, int descriptor) {
    auto pool = std::make_shared<MemoryPool>(device, Role::created, 0);
    pool->descriptor_ = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (pool->descriptor_ < 0) throw DriverError(CUDA_ERROR_INVALID_VALUE, "no such file descriptor");
    pool->imported_ = true;
    publish(pool);
    return pool;
}

std::shared_ptr<MemoryPool> MemoryPool::create_on_host(Device& device, Role role, const CUmemLocation& location,
                                                       uint64_t maximum) {
    auto pool = std::make_shared<MemoryPool>(device, role, maximum);
    pool->location_ = location;
    pool->readable_by_ = pool->writable_by_ = 0;
    publish(pool);
    return pool;
}

namespace {

struct HostPools {
    std::mutex mutex;
    std::shared_ptr<MemoryPool> own, current;
};

HostPools& host_pools() {
    static auto& pools = *new HostPools;
    return pools;
}

}  // namespace

std::shared_ptr<MemoryPool> MemoryPool::default_of_host() {
    HostPools& pools = host_pools();
    const std::lock_guard lock(pools.mutex);
    if (!pools.own) {
        CUmemLocation host{};
        host.type = CU_MEM_LOCATION_TYPE_HOST;
        pools.own = create_on_host(require_device(0), Role::default_pool, host);
        // Nothing says who reaches the memory of this one: every device does.
        for (int i = 0; i < device_count(); ++i) pools.own->set_access(i, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    }
    return pools.own;
}

std::shared_ptr<MemoryPool> MemoryPool::current_of_host() {
    auto own = default_of_host();
    HostPools& pools = host_pools();
    const std::lock_guard lock(pools.mutex);
    return pools.current ? pools.current : own;
}

void MemoryPool::set_current_of_host(std::shared_ptr<MemoryPool> pool) {
    HostPools& pools = host_pools();
    const std::lock_guard lock(pools.mutex);
    pools.current = std::move(pool);
}

// The caller holds the lock.
AllocationPtr MemoryPool::allocate_on_host(uint64_t size) {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    if (size > uint64_t{1} << 47) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "more than any host has");
    const uint64_t length = round_up(size, page);
    if (length > maximum_ - std::min(maximum_, used_)) {
        throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "the pool has reached its maximum");
    }
    void* place = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::strerror(errno));
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = reinterpret_cast<uint64_t>(place);
    allocation->size = size;
    allocation->charged = length;  // of the host's memory, not of the device's
    allocation->kind = MemoryKind::host_allocated;
    allocation->device = &device_;
    allocation->mapped_length = length;
    allocation->buffer_id = new_buffer_id();
    allocation->pool = shared_from_this();
    allocation->readable_by = readable_by_.load();
    allocation->writable_by = writable_by_.load();
    memory_map().insert(allocation);
    on_host_[allocation->begin] = allocation;
    used_ += length;
    reserved_ = used_;
    used_high_ = std::max(used_high_, used_);
    reserved_high_ = std::max(reserved_high_, reserved_);
    return allocation;
}

MemoryPool::Chunk& MemoryPool::grow(uint64_t size) {
    uint64_t wanted = round_up(std::max(size, chunk_bytes), mapping_granule);
    if (wanted > maximum_ - std::min(maximum_, reserved_)) wanted = round_up(size, mapping_granule);
    if (wanted > maximum_ - std::min(maximum_, reserved_)) {
        throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "the pool has reached its maximum");
    }
    const auto place = [&](uint64_t bytes) -> Chunk {
        if (!exportable_) {
            return {device_.memory().take(bytes, mapping_granule), bytes, 0, RangeAllocator(bytes), false};
        }
        device_.memory().charge(bytes);
        const uint64_t offset = file_size_;
        void* mapped = MAP_FAILED;
        if (ftruncate(descriptor_, static_cast<off_t>(offset + bytes)) == 0) {
            mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, descriptor_,
                          static_cast<off_t>(offset));
        }
        if (mapped == MAP_FAILED) {
            device_.memory().discharge(bytes);
            throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, std::string("cannot map a pool: ") + std::strerror(errno));
        }
        file_size_ += bytes;
        return {reinterpret_cast<uint64_t>(mapped), bytes, offset, RangeAllocator(bytes), true};
    };
    Chunk chunk = [&] {
        try {
            return place(wanted);
        } catch (const DriverError&) {
            // Nearly full: take no more than is needed.
            wanted = round_up(size, allocation_granule);
            return place(exportable_ ? round_up(size, mapping_granule) : wanted);
        }
    }();
    reserved_ += chunk.size;
    reserved_high_ = std::max(reserved_high_, reserved_);
    const uint64_t begin = chunk.begin;
    return chunks_.emplace(begin, std::move(chunk)).first->second;
}

void MemoryPool::drop(const Chunk& chunk) {
    if (!chunk.own_mapping) return device_.memory().give_back(chunk.begin, chunk.size);
    munmap(reinterpret_cast<void*>(chunk.begin), chunk.size);
    fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(chunk.file_offset),
              static_cast<off_t>(chunk.size));
    device_.memory().discharge(chunk.size);
}

AllocationPtr MemoryPool::try_allocate(uint64_t size) {
    if (size > device_.memory().capacity()) throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "more than the device has");
    const uint64_t rounded = round_up(size, allocation_granule);
    uint64_t begin = 0;
    for (auto& [address, chunk] : chunks_) {
        if (chunk.size - chunk.pieces.used() < rounded) continue;
        try {
            begin = address + chunk.pieces.allocate(rounded, allocation_granule);
            break;
        } catch (const DriverError&) {
            continue;  // its free room is in pieces
        }
    }
    if (!begin) {
        Chunk& chunk = grow(rounded);
        begin = chunk.begin + chunk.pieces.allocate(rounded, allocation_granule);
    }
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = begin;
    allocation->size = size;
    allocation->charged = rounded;
    allocation->kind = MemoryKind::pool;
    allocation->device = &device_;
    allocation->buffer_id = new_buffer_id();
    allocation->pool = shared_from_this();
    allocation->readable_by = readable_by_.load();
    allocation->writable_by = writable_by_.load();
    memory_map().insert(allocation);
    used_ += rounded;
    used_high_ = std::max(used_high_, used_);
    return allocation;
}

AllocationPtr MemoryPool::allocate(uint64_t size) {
    if (imported_) throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "an imported pool makes no allocations");
    std::unique_lock lock(mutex_);
    for (;;) {
        try {
            return on_host() ? allocate_on_host(size) : try_allocate(size);
        } catch (const DriverError& error) {
            if (error.code != CUDA_ERROR_OUT_OF_MEMORY || pending_frees_ == 0) throw;
        }
        // Memory whose free is on its way counts as free: wait for the next of them.
        const size_t before = pending_frees_;
        freed_.wait_for(lock, std::chrono::seconds(60), [&] { return pending_frees_ < before; });
        if (pending_frees_ >= before)
            throw DriverError(CUDA_ERROR_OUT_OF_MEMORY, "frees in streams do not get through");
    }
}

void MemoryPool::begin_free(const AllocationPtr&) {
    const std::lock_guard lock(mutex_);
    ++pending_frees_;
}

void MemoryPool::finish_free(const AllocationPtr& allocation) {
    if (role_ == Role::graph) {
        allocation->readable_by = 0;
        allocation->writable_by = 0;
        memory_map().changed();
        const auto let_go = std::move(allocation->keeper);
        return;
    }
    if (memory_map().erase(allocation)) give_back(*allocation);
    const std::lock_guard lock(mutex_);
    if (allocation->freeing.load() && pending_frees_) --pending_frees_;
    freed_.notify_all();
}

void MemoryPool::give_back(const Allocation& piece) {
    const std::lock_guard lock(mutex_);
    if (on_host()) {
        munmap(reinterpret_cast<void*>(piece.begin), piece.mapped_length);
        on_host_.erase(piece.begin);
        used_ -= piece.charged;
        reserved_ = used_;
        return;
    }
    auto chunk = chunks_.upper_bound(piece.begin);
    if (chunk == chunks_.begin()) return;
    --chunk;
    chunk->second.pieces.release(piece.begin - chunk->first, piece.charged);
    used_ -= piece.charged;
}

void MemoryPool::trim(uint64_t keep) {
    const std::lock_guard lock(mutex_);
    for (auto chunk = chunks_.begin(); chunk != chunks_.end() && reserved_ > keep;) {
        if (chunk->second.pieces.used() != 0) {
            ++chunk;
            continue;
        }
        reserved_ -= chunk->second.size;
        drop(chunk->second);
        chunk = chunks_.erase(chunk);
    }
}

void MemoryPool::set_access(int ordinal, CUmemAccess_flags access) {
    const uint64_t bit = uint64_t{1} << ordinal;
    const auto apply = [&](std::atomic<uint64_t>& mask, bool on) { on ? mask.fetch_or(bit) : mask.fetch_and(~bit); };
    const bool readable = access != CU_MEM_ACCESS_FLAGS_PROT_NONE;
    const bool writable = access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    apply(readable_by_, readable);
    apply(writable_by_, writable);
    const std::lock_guard lock(mutex_);
    for (const auto& [begin, weak] : on_host_) {
        if (const auto allocation = weak.lock()) {
            apply(allocation->readable_by, readable);
            apply(allocation->writable_by, writable);
        }
    }
    for (const auto& [begin, chunk] : chunks_) {
        for (const auto& allocation : memory_map().within(begin, chunk.size)) {
            apply(allocation->readable_by, readable);
            apply(allocation->writable_by, writable);
        }
    }
    memory_map().changed();
}

CUmemAccess_flags MemoryPool::access(int ordinal) const {
    const uint64_t bit = uint64_t{1} << ordinal;
    if (writable_by_.load() & bit) return CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return readable_by_.load() & bit ? CU_MEM_ACCESS_FLAGS_PROT_READ : CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

MemoryPool::Usage MemoryPool::usage() const {
    const std::lock_guard lock(mutex_);
    return {reserved_, reserved_high_, used_, used_high_};
}

void MemoryPool::reset_reserved_high() {
    const std::lock_guard lock(mutex_);
    reserved_high_ = reserved_;
}

void MemoryPool::reset_used_high() {
    const std::lock_guard lock(mutex_);
    used_high_ = used_;
}

int MemoryPool::duplicate_descriptor() const {
    const int copy = fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::strerror(errno));
    return copy;
}

uint64_t MemoryPool::file_offset(const Allocation& allocation) const {
    const std::lock_guard lock(mutex_);
    auto chunk = chunks_.upper_bound(allocation.begin);
    if (!exportable_ || chunk == chunks_.begin() || allocation.pool.get() != this) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the memory is not of an exportable pool");
    }
    --chunk;
    return chunk->second.file_offset + (allocation.begin - chunk->first);
}

AllocationPtr MemoryPool::import_piece(uint64_t offset, uint64_t size) {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    struct stat about{};
    if (fstat(descriptor_, &about) != 0 || !size || !fits(offset, size, static_cast<uint64_t>(about.st_size))) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the pool holds no such piece");
    }
    const uint64_t first = offset / page * page, length = round_up(offset + size - first, page);
    void* mapped = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, static_cast<off_t>(first));
    if (mapped == MAP_FAILED) throw DriverError(CUDA_ERROR_MAP_FAILED, std::strerror(errno));
    auto allocation = std::make_shared<Allocation>();
    allocation->begin = reinterpret_cast<uint64_t>(mapped) + (offset - first);
    allocation->size = size;
    allocation->kind = MemoryKind::imported;
    allocation->device = &device_;
    allocation->mapped_length = length;
    allocation->buffer_id = new_buffer_id();
    allocation->pool = shared_from_this();
    memory_map().insert(allocation);
    return allocation;
}

void trim_pools(const Device& device) {
    std::vector<std::shared_ptr<MemoryPool>> mine;
    {
        AllPools& all = all_pools();
        const std::lock_guard lock(all.mutex);
        for (const auto& weak : all.pools) {
            auto pool = weak.lock();
            // Graphs keep their memory until they are asked for it (cuDeviceGraphMemTrim).
            if (pool && &pool->device() == &device && pool->role() != MemoryPool::Role::graph) {
                mine.push_back(std::move(pool));
            }
        }
    }
    for (const auto& pool : mine) pool->trim_to_threshold();
}

}  // namespace softgpu
