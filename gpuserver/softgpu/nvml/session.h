// What every NVML function starts with: the library is initialised, and the device handle is one of ours.
#pragma once

#include <cstring>
#include <string_view>

#include "config.h"
#include "nvml/nvml_types.h"
#include "usage.h"

namespace softgpu {

// A device as NVML sees it. CUDA_VISIBLE_DEVICES does not hide devices from NVML.
struct ManagedDevice {
    const DeviceConfig& config;
    DeviceUsage usage;
    explicit ManagedDevice(const DeviceConfig& c) : config(c), usage(c) {}
};

// nvmlInit and nvmlShutdown count.
void open_session();
bool close_session();  // false: it was not open
bool session_is_open();

unsigned device_count();
// Handles are numbers, never followed as pointers. Null for what is no handle of ours.
ManagedDevice* find_device(nvmlDevice_t handle);
nvmlDevice_t handle_of_index(unsigned index);
ManagedDevice& device_at(unsigned index);

// The result of `body()` when the session is open.
template <class Body>
nvmlReturn_t in_session(Body&& body) noexcept {
    if (!session_is_open()) return NVML_ERROR_UNINITIALIZED;
    try {
        return body();
    } catch (...) {
        return NVML_ERROR_UNKNOWN;
    }
}

// The result of `body(device)` when the session is open and the handle is good.
template <class Body>
nvmlReturn_t with_device(nvmlDevice_t handle, Body&& body) noexcept {
    return in_session([&] {
        ManagedDevice* device = find_device(handle);
        return device ? body(*device) : NVML_ERROR_INVALID_ARGUMENT;
    });
}

// Writes one value through a pointer that may be null.
template <class T, class V>
nvmlReturn_t give(T* to, V value) {
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    *to = static_cast<T>(value);
    return NVML_SUCCESS;
}

// Copies a text with its NUL.
inline nvmlReturn_t give_text(char* to, unsigned length, std::string_view text) {
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    if (length <= text.size()) return NVML_ERROR_INSUFFICIENT_SIZE;
    std::memcpy(to, text.data(), text.size());
    to[text.size()] = '\0';
    return NVML_SUCCESS;
}

}  // namespace softgpu
