// The fixed part of a launch, behind its function and stream handles; packed parameters and attributes follow.
#pragma once

#include <cstdint>

namespace gpuferry {

struct LaunchFrame {
    uint32_t grid[3] = {}, block[3] = {};
    uint32_t shared_bytes = 0;
    uint32_t parameter_bytes = 0;
    uint32_t attributes = 0;  // CUlaunchAttribute structs behind the parameters
    uint32_t reserved = 0;
};

constexpr uint32_t most_parameter_bytes = 32764;  // CUDA 12.1 on sm_70 and newer
// Stands for a function attribute that the driver does not know (-1 is a value that some have).
constexpr int32_t no_attribute = INT32_MIN;

constexpr uint32_t most_launch_attributes = 32;

}  // namespace gpuferry
