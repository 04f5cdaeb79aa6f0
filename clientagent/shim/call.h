// One request while the client builds it: parameters in, then `post` or `ask`, then results out.
//
// It goes to the server of the objects that it names, or of its device where it names one, else to that of the current
// context. Objects of two servers do not go together: such a call fails as one with a wrong handle.
#pragma once

#include <concepts>

#include "contexts.h"

namespace gpuferry {

class Call;

// GPUs inside structs: by their number on the server, which the call goes to, and back.
void name_for_server(Call& call, CUmemLocation& location);
void name_for_server(Call& call, CUmemAccessDesc& access);
void name_for_server(Call& call, CUmemAllocationProp& properties);
void name_for_server(Call& call, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation);
void name_for_program(const Call& call, CUmemAccessDesc& access);
void name_for_program(const Call& call, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation);
void name_for_server(Call& call, CUarrayMapInfo& mapping);
// Arrays inside structs: of the server that the call goes to.
void name_for_server(Call& call, CUDA_RESOURCE_DESC& description);
void name_for_program(Call& call, CUDA_RESOURCE_DESC& description);

class Call {
    static constexpr uint64_t most_bytes = 64u << 20;  // of one parameter

  public:
    explicit Call(Op op) : op_(op), fields_(payload_) {}

    // Sends the call to this server. False, and the call fails with `otherwise`, when it is bound for another already.
    bool go_to(Server& server, CUresult otherwise = CUDA_ERROR_INVALID_HANDLE) {
        if (!server_) server_ = &server;
        if (server_ == &server) return true;
        fail(otherwise);
        return false;
    }
    [[nodiscard]] Server& server() const { return server_ ? *server_ : current_server(); }
    // A GPU by its number on its server, which the call goes to.
    void device(CUdevice ordinal) {
        const Device* device = client().device(ordinal);
        if (device) go_to(*device->server, CUDA_ERROR_INVALID_DEVICE);
        fields_.put<int64_t>(device ? device->local : ordinal);  // of what is none, the server's driver says so
    }
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
        if (!present(data) || error_ || !fits<T>(count)) return;
        if constexpr (requires(T& element) { name_for_server(*this, element); }) {
            std::vector<T> named(data, data + count);
            for (T& element : named) name_for_server(*this, element);
            fields_.put_bytes(named.data(), count * sizeof(T));
        } else {
            fields_.put_bytes(data, count * sizeof(T));
        }
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
        go_to(server());
        if (!detail && (kind == Kind::stream || kind == Kind::event)) detail = current_context();
        created_ = handles_table().create(kind, detail, server().number);
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
        if constexpr (requires(T& element) { name_for_program(*this, element); }) {
            for (uint64_t i = 0; i < count; ++i) name_for_program(*this, place[i]);
        }
    }
    void take_devices(CUdevice* place, uint64_t count) {
        take(place, count);
        for (uint64_t i = 0; place && i < count; ++i) place[i] = client().ordinal_of(server(), place[i]);
    }
    template <class T>
    void take_handles(Kind, T* place, uint64_t count) {
        for (uint64_t i = 0; place && i < count; ++i) {
            const auto handle = results_.take<uint64_t>();
            adopt(handle);
            place[i] = from_handle<T>(handle);
        }
    }
    // A handle that came in the reply.
    void adopt(Handle handle, void* detail = nullptr) {
        if (handle && gpuferry::server_of(handle) == server().number) handles_table().adopt(handle, detail);
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
    void note_work();
    [[nodiscard]] Handle sender() const;

    Op op_;
    CUresult error_ = CUDA_SUCCESS;
    Handle created_ = 0, destroyed_ = 0;
    Server* server_ = nullptr;      // once something has decided it
    Context* context_ = nullptr;    // in which the call is made
    Context* of_object_ = nullptr;  // of the stream or event that it names
    Handle stream_ = 0;             // that it names, 0 for the default one
    bool of_stream_ = false;        // it names one
    uint64_t number_ = 0;
    Bytes payload_;
    Encoder fields_;
    Reply reply_;
    Decoder results_{{}};
};

// What a reply says about errors: those of earlier posts first reported here, sticky ones remembered.
CUresult settle(Context* context, Op op, const ReplyHeader& header);

}  // namespace gpuferry
