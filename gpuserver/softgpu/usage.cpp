#include "usage.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <new>
#include <string>

#include "log.h"
#include "shared_memory_file.h"

namespace softgpu {

// One process's share. All zero: free.
struct UsageSlot {
    std::atomic<int32_t> pid;
    std::atomic<int32_t> working;   // pieces of work in flight
    std::atomic<uint64_t> started;  // the process's start time: process ids are used again
    std::atomic<uint64_t> bytes;
    std::atomic<uint64_t> busy_ns;     // of finished stretches of work
    std::atomic<uint64_t> busy_since;  // monotonic_ns when the stretch in progress began
};

struct UsageFile {
    static constexpr size_t slots_count = 1024;
    UsageSlot slots[slots_count];
};

namespace {

// Field 22 of /proc/PID/stat: start time in clock ticks since boot; 0 when there is no such process.
uint64_t start_time(pid_t pid) {
    std::ifstream stream("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(stream, text);
    size_t position = text.rfind(')');  // the command before it may contain anything
    if (position == text.npos) return 0;
    for (int field = 2; field < 22 && position != text.npos; ++field) position = text.find(' ', position + 1);
    return position == text.npos ? 0 : std::strtoull(text.c_str() + position, nullptr, 10);
}

void clear_counts(UsageSlot& slot) {
    slot.bytes = 0;
    slot.busy_ns = 0;
    slot.busy_since = 0;
    slot.working = 0;
}

void clear(UsageSlot& slot) {
    clear_counts(slot);
    slot.started = 0;
    slot.pid.store(0, std::memory_order_release);
}

// Whether the process that filled the slot still runs; clears the slot when it does not.
bool alive(UsageSlot& slot) {
    int32_t pid = slot.pid.load(std::memory_order_acquire);
    if (pid == 0) return false;
    uint64_t started = slot.started;
    if (started == 0 || (::kill(pid, 0) != 0 && errno == ESRCH) || start_time(pid) != started) {
        // A slot being filled has no start time yet; its owner exists and is left in peace.
        if (started == 0 && ::kill(pid, 0) == 0) return false;
        clear(slot);
        return false;
    }
    return true;
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
    int32_t self = ::getpid();
    std::lock_guard guard(mutex_);
    if (slot_ && slot_owner_ == self) return *slot_;
    slot_owner_ = self;
    uint64_t started = start_time(self);
    FileLock lock(descriptor_);
    for (auto& slot : file_->slots) {
        int32_t none = 0;
        // This process's own number is what the program before an exec left.
        if (slot.pid != self && (alive(slot) || !slot.pid.compare_exchange_strong(none, self))) continue;
        clear_counts(slot);
        slot.started = started;
        return *(slot_ = &slot);
    }
    // More processes than slots: the last one is shared by those that do not fit, and counts for all of them.
    return *(slot_ = &file_->slots[UsageFile::slots_count - 1]);
}

bool DeviceUsage::reserve(uint64_t bytes, uint64_t capacity) {
    if (bytes > capacity) return false;
    UsageSlot& slot = mine();
    // Added first, checked then: two processes may both be refused at the brink, never both let through.
    slot.bytes += bytes;
    if (bound_of_used_bytes() <= capacity) return true;
    slot.bytes -= bytes;
    FileLock lock(descriptor_);
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
    for (auto& slot : file_->slots) {
        if (!alive(slot)) continue;
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
    for (auto& slot : file_->slots) {
        if (alive(slot)) used += slot.bytes;
    }
    return used;
}

}  // namespace softgpu
