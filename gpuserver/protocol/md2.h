// The MD2 message digest (RFC 1319) and HMAC with it (RFC 2104; MD2's block is 16 bytes). Broken as cryptography; here
// only because the CUDA runtime's integrity check is made of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace gpuferry {

using Md2Digest = std::array<uint8_t, 16>;

Md2Digest md2(std::span<const uint8_t> message);

// `key` has at most 16 bytes.
Md2Digest hmac_md2(std::span<const uint8_t> key, std::span<const uint8_t> message);

}  // namespace gpuferry
