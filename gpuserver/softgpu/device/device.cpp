// The devices of the process.
#include "device/device.h"

#include <string>

#include "device/context.h"
#include "device/error.h"
#include "device/pool.h"

namespace softgpu {
namespace {

// Never destroyed: programs call from exit handlers.
std::vector<std::unique_ptr<Device>>& devices() {
    static auto& all = *new std::vector<std::unique_ptr<Device>>;
    return all;
}

}  // namespace

Device::Device(int ordinal, const DeviceConfig& config)
    : ordinal_(ordinal), config_(config), usage_(config), memory_(config.memory_bytes, usage_) {}

std::shared_ptr<MemoryPool> Device::current_pool() const {
    const std::lock_guard lock(mutex_);
    return current_pool_;
}

void Device::set_current_pool(std::shared_ptr<MemoryPool> pool) {
    const std::lock_guard lock(mutex_);
    current_pool_ = std::move(pool);
}

void initialise_devices() {
    std::vector<std::unique_ptr<Device>> made;
    for (const DeviceConfig& config : visible_devices()) {
        if (made.size() == max_devices) break;
        made.push_back(std::make_unique<Device>(static_cast<int>(made.size()), config));
    }
    for (auto& device : made) {
        device->primary_ = std::make_shared<Context>(*device, true);
        publish(device->primary_);
        device->default_pool_ = MemoryPool::create(*device, MemoryPool::Role::default_pool);
        device->graph_pool_ = MemoryPool::create(*device, MemoryPool::Role::graph);
        device->current_pool_ = device->default_pool_;
    }
    devices() = std::move(made);
}

bool devices_initialised() {
    return !devices().empty();
}

int device_count() {
    return static_cast<int>(devices().size());
}

Device& require_device(CUdevice ordinal) {
    if (ordinal < 0 || ordinal >= device_count()) {
        throw DriverError(CUDA_ERROR_INVALID_DEVICE, "no device " + std::to_string(ordinal));
    }
    return *devices()[static_cast<size_t>(ordinal)];
}

}  // namespace softgpu
