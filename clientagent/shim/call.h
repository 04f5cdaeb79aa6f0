// One request while the client builds it: parameters in, then `post` or `ask`, then results out.
#pragma once

#include <concepts>

#include "contexts.h"

namespace gpuferry {

class Call {
    static constexpr uint64_t most_bytes = 64u << 20;  // of one parameter

  public:
    explicit Call(Op op) : op_(op), fields_(payload_) {}

    template <class T>
    void value(const T& value) {
        fields_.put(value);
    }
    template <class T>
    void handle(Kind kind, T given) {
        put_handle(kind, to_handle(given));
    }
    template <class T>
    void destroyed(Kind kind, T given) {
        destroyed_ = to_handle(given);
        if (!destroyed_) error_ = CUDA_ERROR_INVALID_HANDLE;
        put_handle(kind, destroyed_);
    }
    template <class T>
    void handles(Kind kind, const T* given, uint64_t count) {
        if (!present(given) || error_ || !fits<T>(count)) return;
        // The first that is none ends the call: what lies behind it may be nothing at all.
        for (uint64_t i = 0; i < count && !error_; ++i) put_element(kind, to_handle(given[i]));
    }
    template <class T>
    void into(const T* data, uint64_t count) {
        if (present(data) && !error_ && fits<T>(count)) fields_.put_bytes(data, count * sizeof(T));
    }
    template <class T>
    void both(const T* data, uint64_t count) {
        into(data, count);
    }
    template <class T>
    void want(const T* place, uint64_t) {
        present(place);
    }
    void text(const char* text) {
        if (present(text)) fields_.put_text(text);
    }
    void bytes(std::span<const char> data) { fields_.put_bytes(data.data(), data.size()); }
    void absent(const void* given) {
        if (given) error_ = CUDA_ERROR_NOT_SUPPORTED;
    }
    // Names the object that the call makes, and gives the program its handle.
    template <class T>
    void create(Kind kind, T* place, void* detail = nullptr) {
        if (!place) {
            error_ = CUDA_ERROR_INVALID_VALUE;
            return;
        }
        created_ = handles_table().create(kind, detail);
        if (!created_) error_ = CUDA_ERROR_OUT_OF_MEMORY;
        *place = from_handle<T>(created_);
        fields_.put(created_);
    }

    CUresult post(std::span<const char> bulk = {});
    // Posts whatever the state of the current context: for requests that end or make contexts, or need none.
    CUresult post_anywhere();
    // Waits for the reply; false when there are no results to take.
    bool ask();
    // The two halves of `ask`: several requests on the way at once. Only a counted wait is a round trip in the stats.
    bool begin(bool counted = true);
    bool await(bool counted);
    [[nodiscard]] CUresult result() const { return error_; }
    void fail(CUresult error) {
        if (!error_) error_ = error;
    }
    [[nodiscard]] uint64_t number() const { return number_; }
    // Bulk results go straight to `place`.
    void receive_into(void* place, size_t size) { reply_.direct = place, reply_.direct_size = size; }

    template <class T>
    void take(T* place, uint64_t count) {
        if (!place) return;
        if (const char* data = results_.take_bytes(count * sizeof(T)); data && count) {
            std::memcpy(place, data, count * sizeof(T));
        }
    }
    template <class T>
    void take_handles(Kind, T* place, uint64_t count) {
        for (uint64_t i = 0; place && i < count; ++i) {
            const auto handle = results_.take<uint64_t>();
            if (handle) handles_table().adopt(handle);
            place[i] = from_handle<T>(handle);
        }
    }
    [[nodiscard]] Decoder& results() { return results_; }

  private:
    // Counts beyond all reason are refused instead of read.
    template <class T>
    bool fits(uint64_t count) {
        if (count <= most_bytes / sizeof(T)) return true;
        fail(CUDA_ERROR_INVALID_VALUE);
        return false;
    }
    bool present(const void* pointer) {
        fields_.put<uint64_t>(pointer != nullptr);
        return pointer != nullptr;
    }
    void put_handle(Kind kind, Handle handle);
    void put_element(Kind kind, Handle handle);
    bool admitted();

    Op op_;
    CUresult error_ = CUDA_SUCCESS;
    Handle created_ = 0, destroyed_ = 0;
    Context* context_ = nullptr;
    uint64_t number_ = 0;
    Bytes payload_;
    Encoder fields_;
    Reply reply_;
    Decoder results_{{}};
};

// What a reply says about errors: those of earlier posts first reported here, sticky ones remembered.
CUresult settle(Context* context, Op op, const ReplyHeader& header);

}  // namespace gpuferry
