#include "request.h"

#include "session.h"

namespace gpuferry::worker {

namespace {

// What CUDA says of a handle of this kind that is none.
CUresult error_of_stale(Kind kind) {
    switch (kind) {
        case Kind::graph:
        case Kind::graph_node:
        case Kind::graph_exec:
        case Kind::memory_pool:
        case Kind::allocation:
            return CUDA_ERROR_INVALID_VALUE;
        default:
            return CUDA_ERROR_INVALID_HANDLE;
    }
}

}  // namespace

void* Request::look_up(Kind kind, Handle handle) {
    if (handle == 0) return nullptr;
    // The legacy and the per-thread default stream are no objects. The client never sends the latter.
    if (kind == Kind::stream && handle <= 2) return reinterpret_cast<void*>(handle);
    if (kind == Kind::context) {
        CUcontext real = nullptr;
        if (const CUresult failure = session.find_context(handle, real)) fail(failure);
        return real;
    }
    const Object* object = session.objects.find(kind, handle);
    if (!object) {
        fail(error_of_stale(kind));
        return nullptr;
    }
    if (object->failed) fail(object->failed);
    return object->real;
}

Handle Request::owner(Kind kind) {
    const Handle handle = first_[static_cast<int>(kind)];
    if (kind == Kind::graph) return handle;
    const Object* object = session.objects.find(kind, handle);
    return object ? object->owner : 0;
}

void Request::forget(Kind kind) {
    session.objects.forget(last(kind));
}

const char* Request::text() {
    if (!present()) return nullptr;
    const std::string_view text = fields_.take_text();
    auto* place = room<char>(text.size() + 1);  // zeroed, so the end is there
    if (place && !text.empty()) std::memcpy(place, text.data(), text.size());
    return place;
}

Handle Request::name(Kind kind) {
    const auto name = fields_.take<uint64_t>();
    if (kind_of(name) != kind) fields_.spoil();
    return name;
}

void Request::bind(Handle name, CUresult result, void* real, Handle owner) {
    // A handle of a failed creation is kept, so that its later uses say what went wrong.
    if (!session.objects.bind(name, result ? nullptr : real, result, owner))
        session.end("the client chose a handle twice");
}

void Answer::put_handle(Request& in, Kind kind, void* real, Handle owner) {
    Encoder(payload).put<uint64_t>(in.session.objects.name_of(kind, real, owner));
}

}  // namespace gpuferry::worker
