// The two ways in which an entry of a fatbin may be compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace softgpu {

enum class Compression { none, lz4, zstd };

// Exactly `size` bytes, or nothing when `packed` does not expand to that. Never takes more memory than `size`.
std::optional<std::string> decompress(Compression how, std::span<const char> packed, size_t size);

}  // namespace softgpu
