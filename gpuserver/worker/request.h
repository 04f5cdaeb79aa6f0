// One request while it is served, and the answer that it gets. The generated handlers and those written by hand take
// parameters from `Request` in wire order and give results to `Answer`.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "objects.h"
#include "wire.h"

namespace gpuferry::worker {

class Session;

class Request;

// Replace the handles in a struct by real ones; false (and the request fails) when one is not valid.
bool localise(Request& in, CUlaunchAttribute& attribute);
bool localise(Request& in, CUDA_RESOURCE_DESC& description);
bool localise(Request& in, CUDA_MEMCPY3D& copy);
bool localise(Request& in, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation);
bool localise(Request& in, CUarrayMapInfo& mapping);
// The reverse, for structs that come out: the client's handles in place of the real ones.
void globalise(Request& in, CUDA_RESOURCE_DESC& description);

class Request {
  public:
    Request(Session& session, const RequestHeader& header, std::span<const char> payload)
        : session(session), header(header), fields_(payload) {}

    Session& session;
    const RequestHeader header;

    // False when the frame is not what its operation needs, or when a handle is not what it should be.
    [[nodiscard]] bool good() const { return fields_.good() && failure_ == CUDA_SUCCESS; }
    [[nodiscard]] CUresult failure() const { return failure_ == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : failure_; }
    void fail(CUresult failure) {
        if (failure_ == CUDA_SUCCESS) failure_ = failure;
    }
    [[nodiscard]] Decoder& fields() { return fields_; }
    [[nodiscard]] Handle context() const { return header.context; }

    template <class T>
    T value() {
        return fields_.take<T>();
    }

    // The real object behind a handle; null for null.
    template <class T>
    T handle(Kind kind) {
        return real<T>(kind, remember(kind, fields_.take<uint64_t>()));
    }
    // The real object behind a handle that lies inside a struct.
    template <class T>
    T inner(Kind kind, T handle) {
        return real<T>(kind, (Handle)(uintptr_t)handle);
    }
    // The handle of this kind that came last among the parameters.
    [[nodiscard]] Handle last(Kind kind) const { return last_[static_cast<int>(kind)]; }
    // What a new object belongs to: the first graph among the parameters (a child graph comes behind it), or the owner
    // of the first node.
    Handle owner(Kind kind);
    void forget(Kind kind);

    template <class T>
    T* handles(Kind kind, uint64_t count) {
        if (!present()) return nullptr;
        auto* found = room<T>(count);
        for (uint64_t i = 0; found && i < count; ++i) found[i] = real<T>(kind, fields_.take<uint64_t>());
        return found;
    }

    // Elements that go in: null where the client passed null.
    template <class T>
    T* into(uint64_t count) {
        if (!present()) return nullptr;
        auto* place = room<T>(count);
        if (!place) return nullptr;
        if (const char* data = fields_.take_bytes(count * sizeof(T)); data && count) {
            std::memcpy(place, data, count * sizeof(T));
            for (uint64_t i = 0; i < count; ++i) localise_if_needed(place[i]);
        }
        return place;
    }
    template <class T>
    T* both(uint64_t count) {
        return into<T>(count);
    }
    // Room for elements that come out, zeroed: null where the client passed null.
    template <class T>
    T* want(uint64_t count) {
        return present() ? room<T>(count) : nullptr;
    }
    const char* text();

    // The handle that the client chose for what this request creates.
    Handle name(Kind kind);
    void bind(Handle name, CUresult result, void* real, Handle owner);
    template <class T>
    void bind(Handle name, CUresult result, T real, Handle owner) {
        bind(name, result, (void*)(uintptr_t)(real), owner);  // handle types are pointers, or integers of their size
    }

    // Memory that lives as long as the request.
    template <class T>
    T* room(uint64_t count) {
        if (count > most_room / sizeof(T)) {
            fields_.spoil();
            return nullptr;
        }
        // Bytes, so that every one of them is zero; `new` aligns them for any type.
        auto& block = rooms_.emplace_back(std::make_unique<std::byte[]>(count * sizeof(T) + 1));
        return reinterpret_cast<T*>(block.get());
    }

  private:
    static constexpr uint64_t most_room = 64u << 20;

    template <class T>
    void localise_if_needed(T& element) {
        if constexpr (requires { localise(*this, element); }) localise(*this, element);
    }
    bool present() { return fields_.take<uint64_t>() != 0 && fields_.good(); }
    Handle remember(Kind kind, Handle handle) {
        Handle& first = first_[static_cast<int>(kind)];
        if (!first) first = handle;
        return last_[static_cast<int>(kind)] = handle;
    }
    void* look_up(Kind kind, Handle handle);
    template <class T>
    T real(Kind kind, Handle handle) {
        return (T)(uintptr_t)look_up(kind, handle);
    }

    Decoder fields_;
    CUresult failure_ = CUDA_SUCCESS;
    Handle first_[static_cast<int>(Kind::count)] = {}, last_[static_cast<int>(Kind::count)] = {};
    std::deque<std::unique_ptr<std::byte[]>> rooms_;
};

class Answer {
  public:
    CUresult result = CUDA_SUCCESS;
    Bytes payload;
    bool later = false;  // a waiter replies

    void refuse(const Request& in) { result = in.failure(); }
    template <class T>
    void give(Request& in, T* data, uint64_t count) {
        if constexpr (requires { globalise(in, *data); }) {
            for (uint64_t i = 0; data && i < count; ++i) globalise(in, data[i]);
        }
        if (data) Encoder(payload).put_bytes(data, count * sizeof(T));
    }
    template <class T>
    void give_handles(Request& in, Kind kind, const T* data, uint64_t count, Handle owner) {
        for (uint64_t i = 0; data && i < count; ++i) put_handle(in, kind, (void*)(uintptr_t)data[i], owner);
    }
    void put_handle(Request& in, Kind kind, void* real, Handle owner);
};

using Handler = void (*)(Request& in, Answer& out);

// Fills the table of handlers; once, at start.
void prepare_handlers();
Handler handler_of(uint16_t op);

}  // namespace gpuferry::worker
