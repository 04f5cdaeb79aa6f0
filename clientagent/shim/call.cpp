#include "call.h"

#include <bit>

#include "capture.h"
#include "entry.h"
#include "functions.h"
#include "quiet_work.h"

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

void name_for_server(Call& call, CUmemLocation& location) {
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE) return;
    const Device* device = client().device(location.id);
    if (!device) return;  // the server's driver says that it is none
    call.go_to(*device->server, CUDA_ERROR_INVALID_DEVICE);
    location.id = device->local;
}
void name_for_server(Call& call, CUmemAccessDesc& access) {
    name_for_server(call, access.location);
}
void name_for_server(Call& call, CUmemAllocationProp& properties) {
    name_for_server(call, properties.location);
}
void name_for_server(Call& call, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation) {
    name_for_server(call, allocation.poolProps.location);
}
static void name_for_program(const Call& call, CUmemLocation& location) {
    if (location.type == CU_MEM_LOCATION_TYPE_DEVICE) location.id = client().ordinal_of(call.server(), location.id);
}
void name_for_program(const Call& call, CUmemAccessDesc& access) {
    name_for_program(call, access.location);
}
void name_for_program(const Call& call, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation) {
    name_for_program(call, allocation.poolProps.location);
}

// The mask names one GPU.
void name_for_server(Call& call, CUarrayMapInfo& mapping) {
    const unsigned mask = mapping.deviceBitMask;
    const Device* device = std::has_single_bit(mask) ? client().device(std::countr_zero(mask)) : nullptr;
    if (!device) return;
    call.go_to(*device->server, CUDA_ERROR_INVALID_VALUE);
    mapping.deviceBitMask = 1u << device->local;
}

void name_for_server(Call& call, CUDA_RESOURCE_DESC& description) {
    const auto bound_for = [&](Kind kind, Handle handle) {
        if (handles_table().living(kind, handle)) call.go_to(client().server_of(handle));
    };
    if (description.resType == CU_RESOURCE_TYPE_ARRAY) {
        bound_for(Kind::array, to_handle(description.res.array.hArray));
    } else if (description.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        bound_for(Kind::mipmapped_array, to_handle(description.res.mipmap.hMipmappedArray));
    }
}
void name_for_program(Call& call, CUDA_RESOURCE_DESC& description) {
    if (description.resType == CU_RESOURCE_TYPE_ARRAY) {
        call.adopt(to_handle(description.res.array.hArray));
    } else if (description.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        call.adopt(to_handle(description.res.mipmap.hMipmappedArray));
    }
}

void Call::put_handle(Kind kind, Handle handle) {
    if (kind == Kind::stream && handle != destroyed_) {
        const Handle resolved = resolve_stream(from_handle<CUstream>(handle));
        stream_ = resolved, of_stream_ = true;
        if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) {
            fail(CUDA_ERROR_INVALID_HANDLE);
        } else if (resolved > 2) {
            go_to(client().server_of(resolved));
            of_object_ = handles_table().find<Context>(Kind::stream, resolved);
        } else if (current_context()) {
            go_to(current_server());  // the default stream is the current context's
        }
        return fields_.put(resolved);
    }
    if (kind == Kind::function && client().has_several_servers() && handles_table().living(kind, handle)) {
        CUresult failure = CUDA_SUCCESS;
        const Function* function = find_function_on(server(), from_handle<CUfunction>(handle), failure);
        if (!function)
            fail(failure);
        else
            handle = function->handle;
    }
    // Of these, none is as wrong as a stale one.
    const bool needed = kind == Kind::event;
    if (!handles_table().living(kind, handle)) {
        if (handle || needed) fail(error_of_stale(kind));
    } else if (go_to(client().server_of(handle), error_of_stale(kind)) && kind == Kind::event && !of_object_) {
        of_object_ = handles_table().find<Context>(kind, handle);
    }
    fields_.put(handle);
}

// Among several, none is as wrong as a stale one.
void Call::put_element(Kind kind, Handle handle) {
    if (!handle) fail(error_of_stale(kind));
    put_handle(kind, handle);
}

// Whether the request may go: its handles are valid and its context has not failed. Where the current context is of
// another server's GPU, the object's own stands in, as any other one would.
bool Call::admitted() {
    context_ = current_context();
    if (error_) return false;
    if (!context_) return true;
    error_ = check_usable(context_);
    if (error_) return false;
    if (server_ && context_->server != server_) {
        const bool own = of_object_ && of_object_->server == server_ && !of_object_->destroyed;
        context_ = own ? of_object_ : server_->primary;
    }
    return true;
}

void Call::note_work() {
    if (!is_quiet(op_)) note_loud(of_stream_ ? stream_key(context_, stream_) : unknown_stream, number_);
}

Handle Call::sender() const {
    return context_ ? context_->handle : 0;
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
    number_ = server().link->post(op_, sender(), payload_.view(), bulk);
    if (!number_) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    note_work();
    if (destroyed_) handles_table().forget(destroyed_);
    return CUDA_SUCCESS;
}

CUresult Call::post_anywhere() {
    if (error_) {
        if (created_) handles_table().forget(created_);
        return error_;
    }
    number_ = server().link->post(op_, 0, payload_.view());
    note_work();
    return number_ ? CUDA_SUCCESS : CUDA_ERROR_DEVICE_UNAVAILABLE;
}

bool Call::begin(bool counted) {
    if (!admitted()) return false;
    go_to(server());  // where the reply is awaited, whatever is current then
    if (server_->link->begin(op_, sender(), payload_.view(), reply_, counted)) {
        number_ = reply_.number;
        // What is asked without a stream asks about something; it gives the device no work.
        if (of_stream_ || op_class(op_) != CallClass::sync) note_work();
        return true;
    }
    error_ = CUDA_ERROR_DEVICE_UNAVAILABLE;
    return false;
}

bool Call::await(bool counted) {
    if (!server().link->await(reply_, counted)) {
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
