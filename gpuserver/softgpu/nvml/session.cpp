// nvmlInit, nvmlShutdown, and the devices behind the handles.
#include "nvml/session.h"

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "log.h"

namespace softgpu {
namespace {

constexpr uintptr_t first_handle = 0x6e766d6c00;

std::mutex mutex;
int opened = 0;

std::vector<std::unique_ptr<ManagedDevice>>& devices() {
    static auto& all = *[] {
        auto* made = new std::vector<std::unique_ptr<ManagedDevice>>;
        for (const auto& device : config().devices) made->push_back(std::make_unique<ManagedDevice>(device));
        return made;
    }();
    return all;
}

}  // namespace

void open_session() {
    devices();
    std::lock_guard lock(mutex);
    ++opened;
}

bool close_session() {
    std::lock_guard lock(mutex);
    if (opened == 0) return false;
    --opened;
    return true;
}

bool session_is_open() {
    std::lock_guard lock(mutex);
    return opened > 0;
}

unsigned device_count() {
    return static_cast<unsigned>(devices().size());
}

ManagedDevice* find_device(nvmlDevice_t handle) {
    auto index = reinterpret_cast<uintptr_t>(handle) - first_handle;
    return index < devices().size() ? devices()[index].get() : nullptr;
}

nvmlDevice_t handle_of_index(unsigned index) {
    return reinterpret_cast<nvmlDevice_t>(first_handle + index);
}

ManagedDevice& device_at(unsigned index) {
    return *devices()[index];
}

void log_unsupported(const char* function) {
    static std::mutex named_mutex;
    static auto& named = *new std::set<std::string>;
    std::lock_guard lock(named_mutex);
    if (named.insert(function).second) {
        log_line(LogLevel::debug, std::string(function) + " is not supported by the software GPU");
    }
}

}  // namespace softgpu

using namespace softgpu;

extern "C" nvmlReturn_t nvmlInitWithFlags(unsigned int) {
    open_session();
    return NVML_SUCCESS;
}
extern "C" nvmlReturn_t nvmlInit_v2() {
    return nvmlInitWithFlags(0);
}
extern "C" nvmlReturn_t nvmlInit() {
    return nvmlInitWithFlags(0);
}
extern "C" nvmlReturn_t nvmlShutdown() {
    return close_session() ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}
