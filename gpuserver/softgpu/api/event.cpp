// Events: recording, waiting, timing.
#include "device/event.h"

#include "api/entry.h"
#include "device/capture.h"
#include "device/pool.h"
#include "device/stream.h"

using namespace softgpu;

namespace {

void record(CUevent handle, CUstream stream_handle, unsigned flags) {
    const auto stream = require_stream(stream_handle);
    const auto event = require<Event>(handle);
    check_value((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) == 0, "unknown flags");
    if (&event->context() != &stream->context()) {
        throw DriverError(CUDA_ERROR_INVALID_HANDLE, "event and stream are of different contexts");
    }
    if (capture_record(*stream, event, flags & CU_EVENT_RECORD_EXTERNAL)) return;
    event->record(*stream);
}

CUresult elapsed(float* milliseconds, CUevent start, CUevent end) {
    const auto first = require<Event>(start);
    const auto second = require<Event>(end);
    check_value(milliseconds, "pMilliseconds is NULL");
    forbid_captured(*first);
    forbid_captured(*second);
    const auto from = first->latest(), to = second->latest();
    if (!first->timed() || !second->timed() || !from || !to) return CUDA_ERROR_INVALID_HANDLE;
    if (&first->context() != &second->context()) return CUDA_ERROR_INVALID_HANDLE;
    first->context().require_unfailed();
    if (!from->done() || !to->done()) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time() - from->time()).count();
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" CUresult CUDAAPI cuEventCreate(CUevent* phEvent, unsigned Flags) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(phEvent, "phEvent is NULL");
        constexpr unsigned known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
        check_value((Flags & ~known) == 0, "unknown flags");
        check_value(!(Flags & CU_EVENT_INTERPROCESS) || Flags & CU_EVENT_DISABLE_TIMING,
                    "an interprocess event cannot take the time");
        *phEvent = publish(std::make_shared<Event>(context.shared_from_this(), Flags));
        context.adopt(to_value(*phEvent));
    });
}

extern "C" CUresult CUDAAPI cuEventDestroy_v2(CUevent hEvent) {
    return entry(__func__, [&] {
        const auto event = require<Event>(hEvent);
        withdraw<Event>(hEvent);
        event->context().disown(to_value(hEvent));
    });
}

extern "C" CUresult CUDAAPI cuEventRecord(CUevent hEvent, CUstream hStream) {
    return entry(__func__, [&] { record(hEvent, hStream, CU_EVENT_RECORD_DEFAULT); });
}

extern "C" CUresult CUDAAPI cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned flags) {
    return entry(__func__, [&] { record(hEvent, hStream, flags); });
}

extern "C" CUresult CUDAAPI cuEventQuery(CUevent hEvent) {
    return entry(__func__, [&] {
        const auto event = require<Event>(hEvent);
        forbid_captured(*event);
        event->context().require_unfailed();
        if (!event->done()) return CUDA_ERROR_NOT_READY;
        event->context().flush_print();
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuEventSynchronize(CUevent hEvent) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        const auto event = require<Event>(hEvent);
        forbid_captured(*event);
        event->wait_latest();
        event->context().flush_print();
        event->context().require_unfailed();
        trim_pools(event->context().device());
    });
}

extern "C" CUresult CUDAAPI cuEventElapsedTime(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
    return entry(__func__, [&] { return elapsed(pMilliseconds, hStart, hEnd); });
}

extern "C" CUresult CUDAAPI cuEventElapsedTime_v2(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
    return entry(__func__, [&] { return elapsed(pMilliseconds, hStart, hEnd); });
}

// --- all streams of a context at once

extern "C" CUresult CUDAAPI cuCtxRecordEvent(CUcontext hCtx, CUevent hEvent) {
    return entry(__func__, [&] {
        const auto context = hCtx ? require<Context>(hCtx) : Context::require_current().shared_from_this();
        const auto event = require<Event>(hEvent);
        context->require_unfailed();
        if (&event->context() != context.get()) return CUDA_ERROR_INVALID_HANDLE;
        // Everything issued so far: the legacy stream waits for the blocking ones, the others are waited for by name.
        const auto gather = std::make_shared<Stream>(context, Stream::Type::created, CU_STREAM_NON_BLOCKING, 0);
        for (const auto& stream : context->streams()) {
            if (stream->capture()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
            const auto part = std::make_shared<Event>(context, CU_EVENT_DISABLE_TIMING);
            part->record(*stream);
            part->make_wait(*gather);
        }
        event->record(*gather);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxWaitEvent(CUcontext hCtx, CUevent hEvent) {
    return entry(__func__, [&] {
        const auto context = hCtx ? require<Context>(hCtx) : Context::require_current().shared_from_this();
        const auto event = require<Event>(hEvent);
        context->require_unfailed();
        forbid_captured(*event);
        for (const auto& stream : context->streams()) {
            if (stream->capture()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
            event->make_wait(*stream);
        }
        return CUDA_SUCCESS;
    });
}
