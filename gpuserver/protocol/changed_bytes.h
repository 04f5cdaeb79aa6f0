// Which bytes of a stretch of shared host memory one end has changed: a bit for each, in words of 64. Only these are
// written at the other end, which may have changed the others at the same time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace gpuferry {

// One message is about this many bytes at most.
constexpr size_t changed_page = 4096;

struct ChangedBytes {
    uint64_t bits[changed_page / 64] = {};

    // What differs between two copies of at most a page; false when nothing does.
    bool find(const char* now, const char* known, size_t size) {
        if (std::memcmp(now, known, size) == 0) return false;
        for (size_t i = 0; i < size; ++i) bits[i / 64] |= uint64_t{now[i] != known[i]} << (i % 64);
        return true;
    }
    [[nodiscard]] bool has(size_t i) const { return bits[i / 64] >> (i % 64) & 1; }
    void set(size_t i) { bits[i / 64] |= uint64_t{1} << (i % 64); }
    void clear(size_t i) { bits[i / 64] &= ~(uint64_t{1} << (i % 64)); }
    [[nodiscard]] bool any() const {
        uint64_t all = 0;
        for (const uint64_t word : bits) all |= word;
        return all != 0;
    }
    // As it travels, ahead of the bytes themselves: padded to 8 bytes.
    static constexpr size_t wire_size(size_t size) { return (size + 63) / 64 * 8; }
    [[nodiscard]] std::span<const char> wire(size_t size) const {
        return {reinterpret_cast<const char*>(bits), wire_size(size)};
    }
    // False where the stretch is more than a page.
    bool read(const char* wire, size_t size) {
        if (size > changed_page) return false;
        std::memcpy(bits, wire, wire_size(size));
        return true;
    }
};

}  // namespace gpuferry
