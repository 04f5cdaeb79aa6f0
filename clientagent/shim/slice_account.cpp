#include "slice_account.h"

#include <sys/mman.h>

#include <algorithm>

#include "shared_memory_file.h"

namespace gpuferry {
namespace {

// Byte 0 of the file is the lock of all; byte 1 + n belongs to the owner of slot n as long as it lives.
constexpr long long whole = 0;
constexpr long long first_slot = 1;

std::string name_of(const std::string& lease) {
    return "gpuferry-slice-" + std::to_string(geteuid()) + "-" + lease;
}

std::string path_of(const std::string& lease) {
    return std::string(shared_memory_folder) + "/" + name_of(lease);
}

}  // namespace

bool SliceAccount::map(int descriptor) {
    void* place = mmap(nullptr, sizeof(SliceMemory), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (place == MAP_FAILED) return false;
    memory_ = static_cast<SliceMemory*>(place);
    return true;
}

void SliceAccount::set_lock(short type, long long start, bool wait) const {
    if (descriptor_ >= 0) lock_bytes(descriptor_, type, start, 1, wait);
}

bool SliceAccount::is_living(size_t slot) const {
    return slot == own_ || (descriptor_ >= 0 && is_locked(descriptor_, first_slot + static_cast<long long>(slot)));
}

bool SliceAccount::open(const std::string& lease) {
    remove_dead_files(name_of(""));  // the last process of a lease was killed
    path_ = path_of(lease);
    descriptor_ = open_and_lock(path_, F_WRLCK);
    const bool mapped = descriptor_ >= 0 && ftruncate(descriptor_, sizeof(SliceMemory)) == 0 && map(descriptor_);
    bool others = false;
    for (size_t slot = 0; mapped && slot < most_slice_processes; ++slot) {
        if (is_locked(descriptor_, first_slot + static_cast<long long>(slot))) {
            others = true;
            continue;
        }
        SliceSlot& dead = memory_->slots[slot];
        dead.process = 0;
        for (auto& bytes : dead.used) bytes = 0;
        if (own_ < most_slice_processes) continue;
        own_ = slot;
        set_lock(F_WRLCK, first_slot + static_cast<long long>(slot), false);
        dead.process = static_cast<uint64_t>(getpid());
    }
    if (own_ == most_slice_processes) {
        memory_ = &alone_;
        own_ = 0;
    } else if (!others) {
        for (auto& budget : memory_->budgets) budget.total = budget.limit = 0;
    }
    if (!mapped && descriptor_ >= 0) {
        ::close(descriptor_);
        descriptor_ = -1;
    }
    set_lock(F_UNLCK, whole, false);
    return memory_ != &alone_;
}

bool SliceAccount::watch(const std::string& lease) {
    if (descriptor_ >= 0) {
        if (is_linked(descriptor_)) return true;
        munmap(memory_, sizeof(SliceMemory));  // its last process has ended
        ::close(descriptor_);
        descriptor_ = -1;
        memory_ = &alone_;
    }
    const int descriptor = open_own_file(path_of(lease));
    if (descriptor < 0) return false;
    struct stat about{};
    const bool complete = fstat(descriptor, &about) == 0 && about.st_size >= static_cast<off_t>(sizeof(SliceMemory));
    if (!complete || !map(descriptor)) {
        ::close(descriptor);
        return false;
    }
    descriptor_ = descriptor;
    return true;
}

void SliceAccount::set_budget(size_t device, uint64_t total, uint64_t limit) {
    if (device >= most_slice_devices) return;
    set_lock(F_WRLCK, whole, true);
    SliceBudget& budget = memory_->budgets[device];
    if (!budget.limit || limit < budget.limit) budget.limit = limit;
    budget.total = total;
    set_lock(F_UNLCK, whole, false);
}

// What living processes hold; what dead ones held is forgotten. `others`: any but this one.
uint64_t SliceAccount::used_by_all(size_t device, bool& others) const {
    uint64_t bytes = 0;
    for (size_t slot = 0; slot < most_slice_processes; ++slot) {
        const SliceSlot& each = memory_->slots[slot];
        if (slot != own_ && !each.process) continue;
        if (slot != own_) {
            if (!is_living(slot)) continue;
            others = true;
        }
        bytes += each.used[device];
    }
    return bytes;
}

bool SliceAccount::take(size_t device, uint64_t bytes) {
    if (device >= most_slice_devices || surrendered_[device]) return false;
    auto& own = memory_->slots[own_].used[device];
    const uint64_t limit = memory_->budgets[device].limit;
    if (bytes > limit) return false;
    bool others = false;
    used_by_all(device, others);
    if (!others) {
        // Alone, so far: first say so, then look. A process that comes meanwhile sees it, and is seen.
        own += bytes;
        const uint64_t all = used_by_all(device, others);
        if (!others && all <= limit) return true;
        own -= bytes;
        if (!others) return false;
    }
    set_lock(F_WRLCK, whole, true);
    const bool fits = bytes <= limit - std::min(used_by_all(device, others), limit);
    if (fits) own += bytes;
    set_lock(F_UNLCK, whole, false);
    return fits;
}

bool SliceAccount::is_shared() const {
    return descriptor_ >= 0 && is_locked(descriptor_, first_slot, most_slice_processes);
}

void SliceAccount::give_back(size_t device, uint64_t bytes) {
    if (device < most_slice_devices && !surrendered_[device]) memory_->slots[own_].used[device] -= bytes;
}

uint64_t SliceAccount::left(size_t device) const {
    bool others = false;
    const uint64_t limit = memory_->budgets[device].limit;
    const uint64_t used = used_by_all(device, others);
    return used < limit ? limit - used : 0;
}

void SliceAccount::each_process(size_t device, const std::function<void(uint64_t, uint64_t)>& visit) {
    for (size_t slot = 0; slot < most_slice_processes; ++slot) {
        const SliceSlot& each = memory_->slots[slot];
        if (each.process && is_living(slot)) visit(each.process, each.used[device]);
    }
}

void SliceAccount::surrender(size_t first, size_t count) {
    for (size_t device = first; device < std::min(first + count, most_slice_devices); ++device) {
        surrendered_[device] = true;
        memory_->slots[own_].used[device] = 0;
    }
}

// The slot stays as it is: nobody counts it any more once the process is gone.
void SliceAccount::close() {
    if (descriptor_ < 0) return;
    set_lock(F_WRLCK, whole, true);
    if (!is_locked(descriptor_, first_slot, most_slice_processes)) unlink(path_.c_str());
    set_lock(F_UNLCK, whole, false);
}

void SliceAccount::abandon() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
}

}  // namespace gpuferry
