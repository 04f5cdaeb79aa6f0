// One NVML request while it is served. The generated handlers take parameters in wire order; what comes out is
// remembered and goes back in the same order.
#pragma once

#include <memory>
#include <vector>

#include "nvml_ops.h"
#include "nvml_table.h"
#include "wire.h"

namespace gpuferry::worker {

// The libnvidia-ml.so.1 that this worker was given; entry points that it lacks answer NVML_ERROR_FUNCTION_NOT_FOUND.
extern NvmlTable nvml;

class NvmlSession;

class NvmlRequest {
  public:
    NvmlRequest(NvmlSession& session, std::span<const char> payload) : session(session), fields_(payload) {}

    NvmlSession& session;
    nvmlReturn_t result = NVML_SUCCESS;
    Bytes payload;  // of the answer

    [[nodiscard]] bool good() const { return fields_.good(); }
    void refuse() { result = NVML_ERROR_INVALID_ARGUMENT; }
    nvmlDevice_t device();
    template <class T>
    T value() {
        return fields_.take<T>();
    }
    template <class T>
    const T* into(uint64_t count) {
        return present() ? fill<T>(count, count * sizeof(T)) : nullptr;
    }
    template <class T>
    T* want(uint64_t count) {
        if (!present()) return nullptr;
        auto* place = room<T>(count);
        if (place) places_.push_back({reinterpret_cast<const char*>(place), count * sizeof(T)});
        return place;
    }
    template <class T>
    T* both(uint64_t count) {
        if (!present()) return nullptr;
        T* place = fill<T>(count, count * sizeof(T));
        if (place) places_.push_back({reinterpret_cast<const char*>(place), count * sizeof(T)});
        return place;
    }
    // A struct that says its size: what the client's version lacks stays zero.
    template <class T>
    T* versioned() {
        if (!present()) return nullptr;
        const auto size = fields_.take<uint64_t>();
        if (size < sizeof(unsigned) || size > sizeof(T)) fields_.spoil();
        T* place = fill<T>(1, size);
        if (!place) return nullptr;
        if ((place->version & 0xff'ffff) != size) fields_.spoil();  // the library would write beyond the answer
        places_.push_back({reinterpret_cast<const char*>(place), size});
        return place;
    }

    void answer(nvmlReturn_t from_library) {
        result = from_library;
        if (result != NVML_SUCCESS && result != NVML_ERROR_INSUFFICIENT_SIZE) return;
        Encoder out(payload);
        for (const Place& place : places_) out.put_text({place.data, place.size});
    }

  private:
    struct Place {
        const char* data;
        size_t size;  // bytes
    };
    static constexpr uint64_t largest = 1u << 20;

    bool present() { return fields_.take<uint64_t>() != 0 && fields_.good(); }
    // Zeroed, with some room behind it for a library that knows a larger struct than this build's nvml.h.
    template <class T>
    T* room(uint64_t count) {
        if (count > largest / sizeof(T)) {
            fields_.spoil();
            return nullptr;
        }
        constexpr uint64_t slack = 256;
        const size_t units = (count * sizeof(T) + slack) / sizeof(std::max_align_t) + 1;
        rooms_.push_back(std::make_unique<std::max_align_t[]>(units));
        return reinterpret_cast<T*>(rooms_.back().get());
    }
    template <class T>
    T* fill(uint64_t count, uint64_t size) {
        T* place = room<T>(count);
        const char* data = place && size <= count * sizeof(T) ? fields_.take_bytes(size) : nullptr;
        if (!data) return nullptr;
        if (size) std::memcpy(static_cast<void*>(place), data, size);
        return place;
    }

    Decoder fields_;
    std::vector<Place> places_;
    std::vector<std::unique_ptr<std::max_align_t[]>> rooms_;
};

using NvmlHandler = void (*)(NvmlRequest& in);

// By operation number; null for none.
NvmlHandler nvml_handler_of(uint16_t op);
void serve_nvml_open(NvmlRequest& in);

}  // namespace gpuferry::worker
