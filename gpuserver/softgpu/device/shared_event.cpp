// Interprocess events: counters in a memfd that other processes open through /proc.
#include "device/shared_event.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "device/error.h"
#include "device/shared_file.h"

namespace softgpu {

// In the file; the same in every process. Counters only grow.
struct SharedEvent::Page {
    uint64_t magic;
    uint64_t key;
    uint64_t flags;
    std::atomic<uint64_t> started;
    std::atomic<uint64_t> finished;
};

namespace {
constexpr uint64_t page_magic = 0x67706665'76656e74;  // "gpfevent"
}

std::shared_ptr<SharedEvent> SharedEvent::create(unsigned flags) {
    const int descriptor = make_memory_file("gpuferry-event", sizeof(Page));
    void* place = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (place == MAP_FAILED) {
        close(descriptor);
        throw DriverError(CUDA_ERROR_OPERATING_SYSTEM, std::string("mmap: ") + std::strerror(errno));
    }
    auto* page = new (place) Page{};
    page->key = random_key();
    page->flags = flags;
    page->magic = page_magic;
    return std::shared_ptr<SharedEvent>(new SharedEvent(descriptor, page));
}

std::shared_ptr<SharedEvent> SharedEvent::open(int process, int descriptor, uint64_t key) {
    const int mine = open_file_of(process, descriptor);
    struct stat about{};
    if (fstat(mine, &about) != 0 || about.st_size < static_cast<off_t>(sizeof(Page))) {
        close(mine);
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the handle is of no event");
    }
    void* place = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, mine, 0);
    if (place == MAP_FAILED) {
        close(mine);
        throw DriverError(CUDA_ERROR_MAP_FAILED, std::string("mmap: ") + std::strerror(errno));
    }
    auto shared = std::shared_ptr<SharedEvent>(new SharedEvent(mine, static_cast<Page*>(place)));
    if (shared->page_->magic != page_magic || shared->page_->key != key) {
        throw DriverError(CUDA_ERROR_INVALID_VALUE, "the event behind the handle is gone");
    }
    return shared;
}

SharedEvent::~SharedEvent() {
    munmap(page_, sizeof(Page));
    close(descriptor_);
}

uint64_t SharedEvent::begin() {
    return page_->started.fetch_add(1) + 1;
}

void SharedEvent::finish(uint64_t turn) {
    uint64_t before = page_->finished.load();
    while (before < turn && !page_->finished.compare_exchange_weak(before, turn)) {
    }
}

uint64_t SharedEvent::latest() const {
    return page_->started.load();
}
bool SharedEvent::done(uint64_t turn) const {
    return page_->finished.load() >= turn;
}

bool SharedEvent::wait(uint64_t turn, const std::function<bool()>& stop) const {
    auto pause = std::chrono::microseconds(20);
    while (!done(turn)) {
        if (stop()) return false;
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, std::chrono::microseconds(1000));
    }
    return true;
}

uint64_t SharedEvent::key() const {
    return page_->key;
}
unsigned SharedEvent::flags() const {
    return static_cast<unsigned>(page_->flags);
}

}  // namespace softgpu
