// How much device memory the session holds on each GPU, and how much it may.
#pragma once

#include <cstdint>
#include <vector>

namespace gpuferry::worker {

class Quota {
  public:
    void add_device(uint64_t limit) { devices_.push_back({limit, 0}); }
    // Takes memory from a GPU's slice; false when the slice has not that much left.
    bool take(size_t device, uint64_t bytes) {
        if (device >= devices_.size() || bytes > devices_[device].limit - devices_[device].used) return false;
        devices_[device].used += bytes;
        return true;
    }
    void give_back(size_t device, uint64_t bytes) {
        if (device < devices_.size()) devices_[device].used -= bytes;
    }
    [[nodiscard]] uint64_t limit(size_t device) const { return devices_[device].limit; }
    [[nodiscard]] uint64_t used(size_t device) const { return devices_[device].used; }

  private:
    struct Device {
        uint64_t limit = 0, used = 0;  // bytes
    };
    std::vector<Device> devices_;
};

}  // namespace gpuferry::worker
