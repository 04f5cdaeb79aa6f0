// How long a code image is that the program passes without saying so, and where its bytes are.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace gpuferry {

// A cubin, a fatbin or PTX text, without the wrapper around a fatbin. A wrapper of separately compiled code (nvcc
// -rdc=true) names several fatbins that belong together: then `linked` is set, and the first is the program's own.
// No parts: it is no image.
struct CodeImage {
    std::vector<std::span<const char>> parts;
    bool linked = false;
};
CodeImage read_code_image(const void* image);

}  // namespace gpuferry
