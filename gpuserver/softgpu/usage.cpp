#include "usage.h"

#include <sys/file.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <string>

#include "log.h"
#include "shared_memory_file.h"

namespace softgpu {

// One process's share.
struct UsageSlot {
    std::atomic<int32_t> pid;      // 0: nobody's
    std::atomic<int32_t> working;  // pieces of work in flight
    std::atomic<uint64_t> bytes;
    std::atomic<uint64_t> busy_ns;     // of finished stretches of work
    std::atomic<uint64_t> busy_since;  // monotonic_ns when the stretch in progress began
};

// Whose a slot is, a lock says: byte 1 + n of the file is locked by the owner of slot n, and free once that process has
// ended. Only who holds the lock clears a slot: one that another has just taken cannot be mistaken for the dead one's.
struct UsageFile {
    static constexpr size_t slots_count = 1024;
    static constexpr size_t shared_slot = slots_count - 1;  // of all processes for which there is no other
    UsageSlot slots[slots_count];
};

namespace {

constexpr long long lock_of(size_t slot) {
    return 1 + static_cast<long long>(slot);
}

void clear(UsageSlot& slot) {
    slot.pid = 0;
    slot.bytes = 0;
    slot.busy_ns = 0;
    slot.busy_since = 0;
    slot.working = 0;
}

// A private copy stands in when there is no shared memory.
UsageFile* private_file() {
    void* memory = ::mmap(nullptr, sizeof(UsageFile), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return static_cast<UsageFile*>(memory);
}

// The device's file. This process holds it, by a lock on its first byte, until it ends.
int open_file(const DeviceConfig& device) {
    const std::string prefix = "gpuferry-softgpu-" + std::to_string(::geteuid()) + "-";
    gpuferry::remove_dead_files(prefix);
    const std::string path = std::string(gpuferry::shared_memory_folder) + "/" + prefix + format_uuid(device.uuid);
    const int descriptor = gpuferry::open_and_lock(path, F_RDLCK);
    if (descriptor < 0) return -1;
    if (::ftruncate(descriptor, sizeof(UsageFile)) == 0) return descriptor;
    ::close(descriptor);
    return -1;
}

class FileLock {
  public:
    explicit FileLock(int descriptor) : descriptor_(descriptor) {
        if (descriptor_ >= 0) ::flock(descriptor_, LOCK_EX);
    }
    ~FileLock() {
        if (descriptor_ >= 0) ::flock(descriptor_, LOCK_UN);
    }
    FileLock(const FileLock&) = delete;
    FileLock& operator=(const FileLock&) = delete;

  private:
    int descriptor_;
};

}  // namespace

uint64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

DeviceUsage::DeviceUsage(const DeviceConfig& device) : descriptor_(open_file(device)) {
    void* memory = descriptor_ < 0
                       ? MAP_FAILED
                       : ::mmap(nullptr, sizeof(UsageFile), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
    if (memory != MAP_FAILED) {
        file_ = static_cast<UsageFile*>(memory);
        return;
    }
    log_line(LogLevel::debug, std::string("no shared memory (") + std::strerror(errno) +
                                  "): other processes do not see this one's use of the device");
    file_ = private_file();
}

UsageSlot& DeviceUsage::mine() {
    const std::lock_guard guard(mutex_);
    if (own_ < UsageFile::slots_count) return file_->slots[own_];
    for (size_t slot = 0; slot < UsageFile::shared_slot; ++slot) {
        if (descriptor_ >= 0 && !gpuferry::lock_bytes(descriptor_, F_WRLCK, lock_of(slot), 1, false)) continue;
        clear(file_->slots[slot]);
        own_ = slot;
        break;
    }
    if (own_ == SIZE_MAX) {
        gpuferry::lock_bytes(descriptor_, F_RDLCK, lock_of(UsageFile::shared_slot), 1, true);
        own_ = UsageFile::shared_slot;
    }
    file_->slots[own_].pid = ::getpid();
    return file_->slots[own_];
}

bool DeviceUsage::lives(size_t slot) const {
    if (file_->slots[slot].pid == 0) return false;
    return slot == own_ || (descriptor_ >= 0 && gpuferry::is_locked(descriptor_, lock_of(slot)));
}

void DeviceUsage::forget_dead() {
    for (size_t slot = 0; descriptor_ >= 0 && slot < UsageFile::slots_count; ++slot) {
        if (slot == own_ || file_->slots[slot].pid == 0) continue;
        if (!gpuferry::lock_bytes(descriptor_, F_WRLCK, lock_of(slot), 1, false)) continue;
        clear(file_->slots[slot]);
        gpuferry::lock_bytes(descriptor_, F_UNLCK, lock_of(slot), 1, false);
    }
}

void DeviceUsage::abandon() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
    file_ = private_file();
}

bool DeviceUsage::reserve(uint64_t bytes, uint64_t capacity) {
    if (bytes > capacity) return false;
    UsageSlot& slot = mine();
    // Added first, checked then: two processes may both be refused at the brink, never both let through.
    slot.bytes += bytes;
    if (bound_of_used_bytes() <= capacity) return true;
    slot.bytes -= bytes;
    FileLock lock(descriptor_);
    forget_dead();
    slot.bytes += bytes;
    if (used_bytes() <= capacity) return true;
    slot.bytes -= bytes;
    return false;
}

void DeviceUsage::release(uint64_t bytes) {
    mine().bytes -= bytes;
}

void DeviceUsage::begin_work() {
    UsageSlot& slot = mine();
    if (slot.working++ == 0) slot.busy_since = monotonic_ns();
}

void DeviceUsage::end_work() {
    UsageSlot& slot = mine();
    uint64_t since = slot.busy_since;
    if (--slot.working == 0) slot.busy_ns += monotonic_ns() - since;
}

std::vector<DeviceUsage::Process> DeviceUsage::processes() const {
    std::vector<Process> found;
    for (size_t number = 0; number < UsageFile::slots_count; ++number) {
        if (!lives(number)) continue;
        const UsageSlot& slot = file_->slots[number];
        uint64_t busy = slot.busy_ns;
        if (slot.working > 0) busy += monotonic_ns() - slot.busy_since;
        found.push_back({slot.pid, slot.bytes, busy});
    }
    return found;
}

uint64_t DeviceUsage::bound_of_used_bytes() const {
    uint64_t used = 0;
    for (auto& slot : file_->slots) used += slot.bytes.load(std::memory_order_relaxed);
    return used;
}

uint64_t DeviceUsage::used_bytes() const {
    uint64_t used = 0;
    for (size_t slot = 0; slot < UsageFile::slots_count; ++slot) {
        if (lives(slot)) used += file_->slots[slot].bytes;
    }
    return used;
}

}  // namespace softgpu
