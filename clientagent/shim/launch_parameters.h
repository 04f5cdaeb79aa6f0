// A kernel's parameters, packed by its layout, and the limits that the driver checks at the call itself.
#pragma once

#include <array>
#include <memory>

#include "functions.h"
#include "launch_frame.h"

namespace gpuferry {

struct PackedParameters {
    const char* bytes = nullptr;
    size_t size = 0;
    std::array<char, 4096> small;  // not zeroed: most of it stays unused
    std::unique_ptr<char[]> large;
};

// From the array of pointers, or as `extra` brings them.
CUresult pack_parameters(const Function& function, void** pointers, void** extra, PackedParameters& packed);

// What the driver reports from the launch call itself.
CUresult check_launch_limits(const Device& device, const Function& function, const LaunchFrame& frame);

// Blocks of this size that fit on one multiprocessor (occupancy.cpp).
int active_blocks(const Device& device, const Function& function, int block, size_t dynamic_shared);

}  // namespace gpuferry
