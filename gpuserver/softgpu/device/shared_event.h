// An event that several processes share: two counters in a memory file.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace softgpu {

class SharedEvent {
  public:
    // A new one. Throws DriverError(OPERATING_SYSTEM).
    static std::shared_ptr<SharedEvent> create(unsigned flags);
    // The one behind another process's descriptor. Throws DriverError(INVALID_VALUE).
    static std::shared_ptr<SharedEvent> open(int process, int descriptor, uint64_t key);
    ~SharedEvent();
    SharedEvent(const SharedEvent&) = delete;
    SharedEvent& operator=(const SharedEvent&) = delete;

    // Starts a recording; returns its number.
    uint64_t begin();
    // The recording with this number is done.
    void finish(uint64_t turn);
    // The number of the recording that was started last.
    [[nodiscard]] uint64_t latest() const;
    [[nodiscard]] bool done(uint64_t turn) const;
    // Waits; gives up and returns false once `stop` says so.
    bool wait(uint64_t turn, const std::function<bool()>& stop) const;

    [[nodiscard]] int descriptor() const { return descriptor_; }
    [[nodiscard]] uint64_t key() const;
    [[nodiscard]] unsigned flags() const;

  private:
    struct Page;
    SharedEvent(int descriptor, Page* page) : descriptor_(descriptor), page_(page) {}
    int descriptor_;
    Page* page_;
};

}  // namespace softgpu
