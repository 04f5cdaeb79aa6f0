// SHA-256 (FIPS 180-4) and HMAC (RFC 2104). Written out here because the shim is loaded into arbitrary programs, where
// a cryptographic library of our own could clash with theirs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace gpuferry {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
  public:
    void add(const void* data, size_t size);
    Digest finish();

  private:
    void compress(const uint8_t* block);
    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> block_{};
    size_t filled_ = 0;
    uint64_t total_ = 0;
};

Digest hmac_sha256(std::span<const uint8_t> key, std::span<const uint8_t> message);

// In a time that does not depend on where the two differ.
bool equal_digests(const Digest& a, const Digest& b);

}  // namespace gpuferry
