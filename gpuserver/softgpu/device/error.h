// How code below an entry point reports a CUDA error.
#pragma once

#include <stdexcept>
#include <string>

#include "device/cuda_types.h"

namespace softgpu {

// Thrown below an entry point; the entry guard (api/entry.h) returns `code` and logs the message.
struct DriverError : std::runtime_error {
    explicit DriverError(CUresult result, const std::string& what = "") : std::runtime_error(what), code(result) {}
    CUresult code;
};

// Throws CUDA_ERROR_INVALID_VALUE unless `condition` holds.
inline void check_value(bool condition, const char* what) {
    if (!condition) throw DriverError(CUDA_ERROR_INVALID_VALUE, what);
}

}  // namespace softgpu
