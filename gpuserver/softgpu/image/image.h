// Code images as programs hand them over: which PTX a device with this compute capability runs.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "device/error.h"
#include "image/image_bytes.h"

namespace softgpu {

// No image that a toolkit writes comes near this; a header that claims more is hostile.
constexpr uint64_t max_image_bytes = uint64_t{512} << 20;

struct ImageError : DriverError {
    using DriverError::DriverError;
};

// PTX texts that are compiled and linked together. At least one.
struct Image {
    std::vector<std::string> ptx;
    bool linked = false;         // cuLinkComplete's output
    uint32_t max_registers = 0;  // that it was linked with; 0: no limit
};

// Reads a fatbin wrapper, a fatbin, PTX text or our own linked image. `target`: the device's, 90 for compute
// capability 9.0. Throws ImageError: NO_BINARY_FOR_GPU for machine code (cubin) and for fatbins with no PTX that this
// target can run, INVALID_IMAGE for what is none of these or is damaged.
Image read_image(const ImageBytes& bytes, int target);

// The image that cuLinkComplete gives out: a fatbin whose entries are all loaded together.
std::vector<std::byte> write_linked_image(std::span<const std::string> ptx, uint32_t max_registers);

}  // namespace softgpu
