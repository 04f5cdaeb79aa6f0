// The block shapes that kernels require (`.reqntid` in PTX, `__block_size__` in CUDA C++), which no attribute of the
// driver API tells: read from the code itself.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace gpuferry {

using BlockShape = std::array<uint32_t, 3>;

// By the kernel's name; only kernels that require a shape. Of PTX text, cubins, and fatbins of these whose code is not
// compressed: of compressed code nothing is known, and the server's driver refuses the launch when it comes to it.
std::map<std::string, BlockShape> required_blocks(std::span<const char> image);

}  // namespace gpuferry
