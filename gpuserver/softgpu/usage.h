// How much of a device each process uses: a small file in shared memory, one a user and device, that libcuda.so.1
// writes and libnvidia-ml.so.1 reads. By it the processes share a device's memory as they would a real one's, and
// cuMemGetInfo and NVML agree. What a dead process left is dropped when it is met,
// and so is the file of a device that no process uses any more (shared_memory_file.h).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "config.h"

namespace softgpu {

struct UsageFile;
struct UsageSlot;

class DeviceUsage {
  public:
    // Opens the file, or makes it. When that fails (no shared memory), counts for this process alone and says so.
    explicit DeviceUsage(const DeviceConfig& device);
    DeviceUsage(const DeviceUsage&) = delete;
    DeviceUsage& operator=(const DeviceUsage&) = delete;

    // Counts `bytes` for this process, unless all processes together would then exceed `capacity`.
    [[nodiscard]] bool reserve(uint64_t bytes, uint64_t capacity);
    void release(uint64_t bytes);

    // In a forked child, which has no device: what it holds of the file must not keep its parent's share alive.
    void abandon();

    // Brackets work on the device by this process; may nest and overlap.
    void begin_work();
    void end_work();

    struct Process {
        pid_t pid;
        uint64_t bytes;    // of device memory
        uint64_t busy_ns;  // in which it had work on the device, since it started
    };
    // The living processes that use the device.
    [[nodiscard]] std::vector<Process> processes() const;
    [[nodiscard]] uint64_t used_bytes() const;

  private:
    // This process's slot, which it takes with its first use of the device.
    UsageSlot& mine();
    [[nodiscard]] bool lives(size_t slot) const;
    // Clears the slots of processes that have ended.
    void forget_dead();
    // Counts the dead too: never less than the truth, and quick.
    [[nodiscard]] uint64_t bound_of_used_bytes() const;

    UsageFile* file_ = nullptr;
    int descriptor_ = -1;
    std::mutex mutex_;
    std::atomic<size_t> own_ = SIZE_MAX;  // the slot of this process, once it used the device
};

// Brackets a piece of work.
class BusyDevice {
  public:
    explicit BusyDevice(DeviceUsage& usage) : usage_(usage) { usage_.begin_work(); }
    ~BusyDevice() { usage_.end_work(); }
    BusyDevice(const BusyDevice&) = delete;
    BusyDevice& operator=(const BusyDevice&) = delete;

  private:
    DeviceUsage& usage_;
};

// CLOCK_MONOTONIC in nanoseconds: one clock for all processes of the machine.
uint64_t monotonic_ns();

}  // namespace softgpu
