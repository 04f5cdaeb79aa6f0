// How long a code image is that the program passes without saying so, and where its bytes are.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace gpuferry {

// The image's bytes: a cubin, a fatbin or PTX text, without the wrapper around a fatbin. A wrapper may name several
// fatbins: the first is the program's own. Empty when it is none of these.
std::span<const char> image_bytes(const void* image);

}  // namespace gpuferry
