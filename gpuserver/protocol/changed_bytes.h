// Which bytes of a stretch of shared host memory one end has changed: a bit for each, in words of 64. Only these are
// written at the other end, which may have changed the others at the same time.
#pragma once

#include <atomic>
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
    // Calls `each(start, end)` for every stretch of changed bytes among the first `size`.
    template <class Each>
    void for_each_run(size_t size, Each each) const {
        for (size_t i = 0; i < size; ++i) {
            const size_t start = i;
            while (i < size && has(i)) ++i;
            if (i > start) each(start, i);
        }
    }
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

// Sets the bytes of a word that `mask` covers; the others may change meanwhile, and are kept.
template <class T>
void merge_word(char* place, const char* from, T mask) {
    T fresh = 0;
    std::memcpy(&fresh, from, sizeof fresh);
    const std::atomic_ref<T> word(*reinterpret_cast<T*>(place));
    if (mask == static_cast<T>(~T{0})) return word.store(fresh, std::memory_order_release);
    T now = word.load(std::memory_order_relaxed);
    while (!word.compare_exchange_weak(now, static_cast<T>((now & ~mask) | (fresh & mask)))) {
    }
}

// Writes the changed bytes to memory that is in use: whoever reads an aligned word of at most 8 bytes there sees it as
// it was or as it is now, never half of each.
inline void write_changed(char* to, const char* from, const ChangedBytes& changed, size_t size) {
    for (size_t i = 0, width = 0; i < size; i += width) {
        width = 8;  // or the largest word that lies here
        while ((reinterpret_cast<uintptr_t>(to) + i) % width || i + width > size) width /= 2;
        uint64_t mask = 0;
        for (size_t byte = 0; byte < width; ++byte) mask |= uint64_t{changed.has(i + byte) ? 0xffu : 0} << 8 * byte;
        if (!mask) continue;
        if (width == 8) merge_word<uint64_t>(to + i, from + i, mask);
        if (width == 4) merge_word<uint32_t>(to + i, from + i, static_cast<uint32_t>(mask));
        if (width == 2) merge_word<uint16_t>(to + i, from + i, static_cast<uint16_t>(mask));
        if (width == 1) merge_word<uint8_t>(to + i, from + i, static_cast<uint8_t>(mask));
    }
}

}  // namespace gpuferry
