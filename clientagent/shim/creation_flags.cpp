// Streams and events: what the call itself refuses is checked here, the rest is posted.
#include <atomic>

#include "contexts.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

std::atomic<bool> non_blocking_streams = false;

}  // namespace

bool non_blocking_streams_used() {
    return non_blocking_streams;
}

namespace shim {
namespace {

// An event is recorded in streams of its own context. What was made elsewhere (by another process) only the server
// knows.
CUresult check_record(CUevent event, CUstream stream) {
    const auto* of_event = handles_table().find<Context>(Kind::event, to_handle(event));
    const Handle place = resolve_stream(stream);
    const Context* of_stream = place > 2 ? handles_table().find<Context>(Kind::stream, place) : current_context();
    return of_event && of_stream && of_event != of_stream ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

void note_flags(unsigned flags) {
    if (flags & CU_STREAM_NON_BLOCKING) non_blocking_streams = true;
}

constexpr unsigned stream_flags = CU_STREAM_NON_BLOCKING;
constexpr unsigned event_flags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

}  // namespace

CUresult cuStreamCreate(CUstream* phStream, unsigned Flags) {
    note_flags(Flags);
    return Flags & ~stream_flags ? CUDA_ERROR_INVALID_VALUE : forward_cuStreamCreate(phStream, Flags);
}

CUresult cuStreamCreateWithPriority(CUstream* phStream, unsigned flags, int priority) {
    note_flags(flags);
    return flags & ~stream_flags ? CUDA_ERROR_INVALID_VALUE
                                 : forward_cuStreamCreateWithPriority(phStream, flags, priority);
}

CUresult cuEventCreate(CUevent* phEvent, unsigned Flags) {
    if (Flags & ~event_flags) return CUDA_ERROR_INVALID_VALUE;
    // An event that other processes open may not take the time.
    const unsigned shared = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
    if ((Flags & shared) == CU_EVENT_INTERPROCESS) return CUDA_ERROR_INVALID_VALUE;
    return forward_cuEventCreate(phEvent, Flags);
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream) {
    const CUresult failure = check_record(hEvent, hStream);
    return failure ? failure : forward_cuEventRecord(hEvent, hStream);
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned flags) {
    const CUresult failure = check_record(hEvent, hStream);
    return failure ? failure : forward_cuEventRecordWithFlags(hEvent, hStream, flags);
}

}  // namespace shim
}  // namespace gpuferry
