#include "slice_account.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gpuferry {
namespace {

// Byte 0 of the file is the lock of all; byte 1 + n belongs to the owner of slot n as long as it lives. The locks are
// those of the open file: another library of this process that opens and closes the file does not lose them.
constexpr long long whole = 0;
constexpr long long first_slot = 1;
constexpr const char* folder = "/dev/shm";

std::string path_of(const std::string& lease) {
    return std::string(folder) + "/gpuferry-slice-" + std::to_string(geteuid()) + "-" + lease;
}

// Whether somebody else has a lock on these bytes.
bool is_locked(int descriptor, long long start, long long size = 1) {
    struct flock part{};
    part.l_type = F_WRLCK;
    part.l_whence = SEEK_SET;
    part.l_start = start;
    part.l_len = size;
    return fcntl(descriptor, F_OFD_GETLK, &part) == 0 && part.l_type != F_UNLCK;
}

bool lock_byte(int descriptor, short type, long long start, bool wait) {
    struct flock part{};
    part.l_type = type;
    part.l_whence = SEEK_SET;
    part.l_start = start;
    part.l_len = 1;
    while (fcntl(descriptor, wait ? F_OFD_SETLKW : F_OFD_SETLK, &part) < 0) {
        if (errno != EINTR) return false;
    }
    return true;
}

// Accounts of which no process is left alive, because the last one was killed.
void remove_dead_accounts() {
    const std::string prefix = path_of("").substr(std::strlen(folder) + 1);
    DIR* all = opendir(folder);
    if (!all) return;
    while (const dirent* entry = readdir(all)) {
        if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) != 0) continue;
        const int file = openat(dirfd(all), entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (file < 0) continue;
        if (lock_byte(file, F_WRLCK, whole, false) && !is_locked(file, first_slot, most_slice_processes)) {
            unlinkat(dirfd(all), entry->d_name, 0);
        }
        ::close(file);
    }
    closedir(all);
}

}  // namespace

// -1 where the file cannot be made, or is not ours alone.
int SliceAccount::open_file(const std::string& path) const {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor < 0) return -1;
    struct stat about{};
    if (fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == geteuid()) return descriptor;
    ::close(descriptor);
    return -1;
}

bool SliceAccount::map(int descriptor) {
    void* place = mmap(nullptr, sizeof(SliceMemory), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (place == MAP_FAILED) return false;
    memory_ = static_cast<SliceMemory*>(place);
    return true;
}

void SliceAccount::set_lock(short type, long long start, bool wait) const {
    if (descriptor_ >= 0) lock_byte(descriptor_, type, start, wait);
}

bool SliceAccount::is_living(size_t slot) const {
    return slot == own_ || (descriptor_ >= 0 && is_locked(descriptor_, first_slot + static_cast<long long>(slot)));
}

bool SliceAccount::open(const std::string& lease) {
    remove_dead_accounts();
    path_ = path_of(lease);
    while (true) {
        descriptor_ = open_file(path_);
        if (descriptor_ < 0) break;
        set_lock(F_WRLCK, whole, true);
        struct stat about{};
        fstat(descriptor_, &about);
        if (about.st_nlink) break;
        ::close(descriptor_);  // the last one has just removed it: again, with a new file
    }
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
    struct stat about{};
    if (descriptor_ >= 0) {
        if (fstat(descriptor_, &about) == 0 && about.st_nlink) return true;
        munmap(memory_, sizeof(SliceMemory));  // its last process has ended
        ::close(descriptor_);
        descriptor_ = -1;
        memory_ = &alone_;
    }
    const std::string path = path_of(lease);
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) return false;
    const bool ours = fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == geteuid() &&
                      about.st_size >= static_cast<off_t>(sizeof(SliceMemory));
    if (!ours || !map(descriptor)) {
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
    if (device >= most_slice_devices || surrendered_) return false;
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
    if (device < most_slice_devices && !surrendered_) memory_->slots[own_].used[device] -= bytes;
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

void SliceAccount::surrender() {
    surrendered_ = true;
    for (auto& bytes : memory_->slots[own_].used) bytes = 0;
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
