// The wire format that the shim and the worker share: frames, and the fields inside them.
//
// A session is one ordered stream of requests one way and one stream of replies the other way. Every frame starts with
// a fixed header; every field is padded to 8 bytes, so that arrays inside a frame may be used where they lie.
// All numbers are little endian: both ends are x86-64 or arm64 Linux.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gpuferry {

static_assert(std::endian::native == std::endian::little, "the wire format is little endian");

constexpr uint32_t protocol_version = 1;
// The largest payload of one frame: module images travel whole; memory copies are cut into `copy_chunk` pieces, so
// that other threads' posts pass between the pieces.
constexpr uint32_t largest_payload = 1u << 30;
constexpr uint32_t copy_chunk = 4u << 20;
// The fields of `copy_in` ahead of its bulk bytes: destination, size, stream.
constexpr uint32_t copy_in_fields = 24;

// Requests are numbered from 1 in the order of the stream; `context` is the handle of the context that was current in
// the calling thread, 0 for none.
struct RequestHeader {
    uint32_t bytes = 0;  // of the payload behind this header, a multiple of 8
    uint16_t op = 0;
    uint16_t flags = 0;
    uint64_t number = 0;
    uint64_t context = 0;
};
static_assert(sizeof(RequestHeader) == 24);

// The sender waits for a reply to this request.
constexpr uint16_t request_awaited = 1;
// It waits for this one alone: a blocking round trip. The pieces of a large copy wait together, for the last of them.
constexpr uint16_t request_blocks = 2;

// `latched` is the first error of a posted call that no reply has reported yet, with the call it came from.
struct ReplyHeader {
    uint64_t number = 0;  // of the request; 0 for a delivery
    uint32_t bytes = 0;   // of the payload behind this header, a multiple of 8
    int32_t result = 0;   // a CUresult, or a Delivery where `number` is 0
    int32_t latched = 0;
    uint16_t latched_op = 0;
    uint16_t flags = 0;
};
static_assert(sizeof(ReplyHeader) == 24);

// What travels to the client ahead of the reply that makes it visible.
enum class Delivery : int32_t {
    copied = 1,  // u64 request number of the copy, u64 offset, u64 size, bytes: for host memory named by that request
    output = 2,  // u64 size, bytes that the device printed
    pages = 3,   // u64 address, u64 size, which bytes (changed_bytes.h), bytes: host memory that both sides have
    error_output = 5,   // as output, for standard error
    host_function = 4,  // u64 id of a host function whose turn in its stream has come
};

constexpr size_t padded(size_t bytes) {
    return (bytes + 7) & ~size_t{7};
}

// A growing byte buffer whose first bytes lie inside it: building a small frame allocates nothing.
class Bytes {
  public:
    Bytes() = default;
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    ~Bytes() {
        if (data_ != inside_) std::free(data_);
    }

    [[nodiscard]] char* data() { return data_; }
    [[nodiscard]] size_t size() const { return size_; }
    [[nodiscard]] std::span<const char> view() const { return {data_, size_}; }
    void clear() { size_ = 0; }
    // Room for `size` more bytes at the end, uninitialised. Raises std::bad_alloc.
    char* extend(size_t size) {
        if (size_ + size > capacity_) grow(size_ + size);
        char* place = data_ + size_;
        size_ += size;
        return place;
    }

  private:
    void grow(size_t needed) {
        const size_t larger = std::max(needed, capacity_ * 2);
        auto* moved = static_cast<char*>(std::malloc(larger));
        if (!moved) throw std::bad_alloc();
        std::memcpy(moved, data_, size_);
        if (data_ != inside_) std::free(data_);
        data_ = moved;
        capacity_ = larger;
    }

    alignas(16) char inside_[1024];
    char* data_ = inside_;
    size_t size_ = 0, capacity_ = sizeof inside_;
};

// Appends fields to a frame's payload.
class Encoder {
  public:
    explicit Encoder(Bytes& buffer) : buffer_(buffer) {}

    template <class T>
    void put(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        put_bytes(&value, sizeof value);
    }
    void put_bytes(const void* data, size_t size) {
        char* place = buffer_.extend(padded(size));
        if (padded(size) != size) std::memset(place + padded(size) - 8, 0, 8);  // nothing of this process leaks out
        if (size) std::memcpy(place, data, size);
    }
    void put_text(std::string_view text) {
        put<uint64_t>(text.size());
        put_bytes(text.data(), text.size());
    }

  private:
    Bytes& buffer_;
};

// Takes fields from a payload that a peer sent. Reading beyond its end gives zeros and makes `good()` false for good.
class Decoder {
  public:
    explicit Decoder(std::span<const char> payload) : rest_(payload) {}

    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] size_t left() const { return rest_.size(); }
    void spoil() { good_ = false; }

    template <class T>
    T take() {
        static_assert(std::is_trivially_copyable_v<T>);
        T value{};
        if (const char* data = take_bytes(sizeof(T))) std::memcpy(&value, data, sizeof(T));
        return value;
    }
    // `size` bytes where they lie, 8-aligned if the payload is; null when there are not as many.
    const char* take_bytes(uint64_t size) {
        if (!good_ || size > rest_.size() || padded(size) > rest_.size()) {
            good_ = false;
            return nullptr;
        }
        const char* data = rest_.data();
        rest_ = rest_.subspan(padded(size));
        return data;
    }
    // `count` values; empty when there are not as many.
    template <class T>
    std::vector<T> take_array(uint64_t count) {
        static_assert(std::is_trivially_copyable_v<T>);
        const char* data = count > rest_.size() / sizeof(T) ? take_bytes(UINT64_MAX) : take_bytes(count * sizeof(T));
        std::vector<T> values;
        if (!data || count == 0) return values;
        values.resize(count);
        std::memcpy(values.data(), data, count * sizeof(T));
        return values;
    }
    std::string_view take_text() {
        const auto size = take<uint64_t>();
        const char* data = take_bytes(size);
        return data ? std::string_view(data, size) : std::string_view();
    }

  private:
    std::span<const char> rest_;
    bool good_ = true;
};

}  // namespace gpuferry
