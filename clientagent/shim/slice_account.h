// The budget of a lease's slices, shared by the processes of this machine that use it: each decides alone, at once and
// exactly, whether an allocation fits. It lies in shared memory named by the lease; every process writes a slot of its
// own, and one that has died holds nothing. The server keeps its own account: this one only saves asking.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace gpuferry {

constexpr size_t most_slice_devices = 64;
constexpr size_t most_slice_processes = 256;

struct SliceSlot {
    std::atomic<uint64_t> process = 0;                    // its id, 0: free
    std::atomic<uint64_t> used[most_slice_devices] = {};  // bytes of each GPU
};

struct SliceBudget {
    std::atomic<uint64_t> total = 0;  // bytes: the slice
    std::atomic<uint64_t> limit = 0;  // bytes that allocations may take
};

struct SliceMemory {
    SliceBudget budgets[most_slice_devices];
    SliceSlot slots[most_slice_processes];
};

class SliceAccount {
  public:
    // Takes a slot. False where the shared memory cannot be used: then this process counts alone. `lease` is 32
    // hexadecimal digits.
    bool open(const std::string& lease);
    // Looks on without a slot of its own; false when no process has opened the account.
    bool watch(const std::string& lease);
    // A GPU of the lease. Processes that open it while others live share the least limit.
    void set_budget(size_t device, uint64_t total, uint64_t limit);

    // Whether other living processes count here too.
    [[nodiscard]] bool is_shared() const;

    // Takes bytes of a GPU's slice; false when there are not as many. The caller is alone in this process.
    bool take(size_t device, uint64_t bytes);
    void give_back(size_t device, uint64_t bytes);
    [[nodiscard]] uint64_t total(size_t device) const { return memory_->budgets[device].total; }
    // Bytes that allocations of any process can still take.
    [[nodiscard]] uint64_t left(size_t device) const;
    // Every living process of the lease with the bytes it holds of a GPU.
    void each_process(size_t device, const std::function<void(uint64_t process, uint64_t bytes)>& visit);

    // The session with these GPUs' server is lost, and all that this process held there: it takes nothing any more.
    void surrender(size_t first, size_t count);
    // This process is about to end.
    void close();
    // In a forked child: the parent goes on alone.
    void abandon();

  private:
    bool map(int descriptor);
    void set_lock(short type, long long start, bool wait) const;
    [[nodiscard]] bool is_living(size_t slot) const;
    uint64_t used_by_all(size_t device, bool& others) const;

    std::string path_;
    int descriptor_ = -1;
    size_t own_ = most_slice_processes;  // that is: none
    SliceMemory alone_;
    std::atomic<bool> surrendered_[most_slice_devices] = {};
    SliceMemory* memory_ = &alone_;
};

}  // namespace gpuferry
