// Device code inside host files: object files and static libraries that nvcc wrote (libcudadevrt.a, *.o).
#pragma once

#include <string>
#include <vector>

#include "image/image.h"

namespace softgpu {

// The PTX of every fatbin in an ELF object or in the objects of an ar archive; code that is there as machine code only
// is left out, so that what needs it fails by its name when it is linked. Throws ImageError: INVALID_IMAGE for what is
// neither, or is damaged.
std::vector<std::string> read_device_code(const ImageBytes& bytes, int target);

}  // namespace softgpu
