// Where the bytes of a code image are read from: never past a bound, and never from memory that is not there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace softgpu {

// CUDA passes images as a bare address; their length is in their own headers, which may lie. So an image at an address
// is read through the kernel, which refuses unmapped pages instead of faulting. An image of known length is a span.
class ImageBytes {
  public:
    static ImageBytes at(const void* address) { return ImageBytes(address, UINT64_MAX, true); }
    static ImageBytes within(std::span<const std::byte> bytes) { return ImageBytes(bytes.data(), bytes.size(), false); }

    // The image whose first byte is at `offset`; empty past the end.
    [[nodiscard]] ImageBytes from(uint64_t offset) const;
    // The same image, at most `size` bytes of it.
    [[nodiscard]] ImageBytes first(uint64_t size) const;

    // Bytes that may be asked for; UINT64_MAX when unknown.
    [[nodiscard]] uint64_t size() const { return size_; }
    // Copies exactly `size` bytes from `offset`; false when they are not all there.
    [[nodiscard]] bool copy(uint64_t offset, void* to, size_t size) const;

    template <class T>
    [[nodiscard]] std::optional<T> read(uint64_t offset) const {
        T value;
        return copy(offset, &value, sizeof value) ? std::optional<T>(value) : std::nullopt;
    }

    // The text up to its NUL, or up to the end of a span; nothing when it has more than `limit` bytes or ends in
    // unmapped memory.
    [[nodiscard]] std::optional<std::string> text(size_t limit) const;

  private:
    ImageBytes(const void* address, uint64_t size, bool guarded)
        : base_(static_cast<const std::byte*>(address)), size_(size), guarded_(guarded) {}

    const std::byte* base_;
    uint64_t size_;
    bool guarded_;
};

}  // namespace softgpu
