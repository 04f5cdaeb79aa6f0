#include "call.h"

#include "capture.h"
#include "entry.h"

namespace gpuferry {
namespace {

// What CUDA says of a handle of this kind that is none.
CUresult error_of_stale(Kind kind) {
    switch (kind) {
        case Kind::context:
            return CUDA_ERROR_INVALID_CONTEXT;
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

void Call::put_handle(Kind kind, Handle handle) {
    if (kind == Kind::stream && handle != destroyed_) {
        const Handle resolved = resolve_stream(from_handle<CUstream>(handle));
        if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) fail(CUDA_ERROR_INVALID_HANDLE);
        return fields_.put(resolved);
    }
    // Of these, none is as wrong as a stale one.
    const bool needed = kind == Kind::event;
    if ((handle || needed) && !handles_table().living(kind, handle)) fail(error_of_stale(kind));
    fields_.put(handle);
}

// Among several, none is as wrong as a stale one.
void Call::put_element(Kind kind, Handle handle) {
    if (!handle) fail(error_of_stale(kind));
    put_handle(kind, handle);
}

// Whether the request may go: its handles are valid and its context has not failed.
bool Call::admitted() {
    context_ = current_context();
    if (error_) return false;
    if (context_) error_ = check_usable(context_);
    return !error_;
}

CUresult Call::post(std::span<const char> bulk) {
    if (!admitted()) {
        if (created_) handles_table().forget(created_);
        return error_;
    }
    // Without a context most calls are refused, and what a capture allows is hard to tell: the driver itself says.
    const bool uncertain = !context_ || (capture_under_way() && op_ != Op::launch);
    if (uncertain && bulk.empty()) {
        ask();
        if (error_ && created_) handles_table().forget(created_);
        return error_;
    }
    number_ = client().link()->post(op_, context_ ? context_->handle : 0, payload_.view(), bulk);
    if (!number_) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    if (destroyed_) handles_table().forget(destroyed_);
    return CUDA_SUCCESS;
}

CUresult Call::post_anywhere() {
    if (error_) {
        if (created_) handles_table().forget(created_);
        return error_;
    }
    number_ = client().link()->post(op_, 0, payload_.view());
    return number_ ? CUDA_SUCCESS : CUDA_ERROR_DEVICE_UNAVAILABLE;
}

bool Call::begin(bool counted) {
    if (!admitted()) return false;
    if (client().link()->begin(op_, context_ ? context_->handle : 0, payload_.view(), reply_, counted)) return true;
    error_ = CUDA_ERROR_DEVICE_UNAVAILABLE;
    return false;
}

bool Call::await(bool counted) {
    if (!client().link()->await(reply_, counted)) {
        error_ = CUDA_ERROR_DEVICE_UNAVAILABLE;
        return false;
    }
    results_ = Decoder(reply_.payload);
    error_ = settle(context_, op_, reply_.header);
    if (!error_ && destroyed_) handles_table().forget(destroyed_);
    return !reply_.payload.empty();
}

bool Call::ask() {
    return begin() && await(true);
}

CUresult settle(Context* context, Op op, const ReplyHeader& header) {
    auto result = static_cast<CUresult>(header.result);
    if (header.latched) {
        trace_latched(op, static_cast<Op>(header.latched_op), header.latched);
        if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY) result = static_cast<CUresult>(header.latched);
    }
    if (context && is_sticky(result)) context->sticky = result;
    return result;
}

}  // namespace gpuferry
