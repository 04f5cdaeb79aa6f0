// Numbers that name contexts and streams (table 21318c60, which runtime 13.4 and newer insist on). cuBLAS and cuFFT key
// their workspaces by them, so every stream must have another.
#include "api/entry.h"
#include "device/context.h"
#include "device/stream.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult get_context_id(CUcontext context, uint32_t* id) {
    return entry("OBJECT_IDS.get_context_id", [&] {
        check_value(id != nullptr, "no place for the id");
        auto object = context ? require<Context>(context) : Context::current();
        if (!object) throw DriverError(CUDA_ERROR_INVALID_CONTEXT);
        *id = static_cast<uint32_t>(object->id());
    });
}

// NULL becomes the handle of the default stream that it means.
CUresult resolve_stream(CUcontext, CUstream stream, CUstream* resolved) {
    return entry("OBJECT_IDS.resolve_stream", [&] {
        check_value(resolved != nullptr, "no place for the stream");
        auto object = require_stream_even_failed(stream);
        *resolved = object->type() == Stream::Type::legacy       ? CU_STREAM_LEGACY
                    : object->type() == Stream::Type::per_thread ? CU_STREAM_PER_THREAD
                                                                 : handle_of(*object);
    });
}

CUresult get_stream_id(CUcontext, CUstream stream, uint64_t* id) {
    return entry("OBJECT_IDS.get_stream_id", [&] {
        check_value(id != nullptr, "no place for the id");
        *id = require_stream_even_failed(stream)->id();
    });
}

}  // namespace

const void* object_ids_table() {
    static auto& table =
        (*new SlotTable<"OBJECT_IDS", 96>).set(4, get_context_id).set(39, get_stream_id).set(51, resolve_stream);
    return table.address();
}

}  // namespace softgpu
