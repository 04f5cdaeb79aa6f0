// Streams and events: what the call itself refuses is checked here, the creation is posted.
#include "contexts.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

constexpr unsigned stream_flags = CU_STREAM_NON_BLOCKING;
constexpr unsigned event_flags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

}  // namespace

CUresult cuStreamCreate(CUstream* phStream, unsigned Flags) {
    return Flags & ~stream_flags ? CUDA_ERROR_INVALID_VALUE : forward_cuStreamCreate(phStream, Flags);
}

CUresult cuStreamCreateWithPriority(CUstream* phStream, unsigned flags, int priority) {
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

}  // namespace gpuferry::shim
