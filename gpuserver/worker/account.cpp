#include "account.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gpuferry::worker {

Account::Account(int descriptor, size_t slot) : descriptor_(descriptor), own_(slot) {
    if (slot >= account_slots) throw std::runtime_error("there is no slot " + std::to_string(slot));
    const int flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* place = mmap(nullptr, account_slots * sizeof(AccountSlot), PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (place == MAP_FAILED) throw std::runtime_error(std::string("cannot map the account: ") + std::strerror(errno));
    slots_ = static_cast<AccountSlot*>(place);
    own().process = static_cast<uint64_t>(getpid());
}

uint64_t Account::used_by_others(size_t device) const {
    uint64_t bytes = 0;
    for (size_t i = 0; i < account_slots; ++i) {
        if (i != own_) bytes += slots_[i].used[device].load(std::memory_order_relaxed);
    }
    return bytes;
}

// A record lock belongs to the process, although the workers share the daemon's open file.
void Account::set_lock(short type) const {
    if (descriptor_ < 0) return;
    struct flock whole{};
    whole.l_type = type;
    whole.l_whence = SEEK_SET;
    while (fcntl(descriptor_, F_SETLKW, &whole) < 0 && errno == EINTR) {
    }
}

void Account::lock() {
    set_lock(F_WRLCK);
}

void Account::unlock() {
    set_lock(F_UNLCK);
}

}  // namespace gpuferry::worker
