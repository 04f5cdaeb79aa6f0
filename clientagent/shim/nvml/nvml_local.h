// What NVML's functions written by hand start with, and how they give their results.
#pragma once

#include <cstring>
#include <string_view>

#include "nvml_connection.h"

namespace gpuferry::nvml {

// The result of `body()` when the library is initialised.
template <class Body>
nvmlReturn_t in_session(Body&& body) {
    return session().is_open() ? body() : NVML_ERROR_UNINITIALIZED;
}

// The result of `body(device, index)` when the handle is good as well.
template <class Body>
nvmlReturn_t with_device(nvmlDevice_t handle, Body&& body) {
    return in_session([&] {
        unsigned index = 0;
        const Device* device = find_device(handle, index);
        return device ? body(*device, index) : NVML_ERROR_INVALID_ARGUMENT;
    });
}

template <class T, class V>
nvmlReturn_t give(T* place, V value) {
    if (!place) return NVML_ERROR_INVALID_ARGUMENT;
    *place = static_cast<T>(value);
    return NVML_SUCCESS;
}

}  // namespace gpuferry::nvml
