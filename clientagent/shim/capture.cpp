// Stream capture. Which streams capture, and what, is the worker's driver's to know: beginning and ending are asked
// for. A process that has no capture under way answers questions about captures itself: cudart asks before every copy.
#include "capture.h"

#include <utility>

#include "call.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

std::atomic<int> captures_under_way = 0;
thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

CUresult check_stream(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    return current_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace

CUresult ask_capturing(CUstream stream, bool& capturing) {
    capturing = false;
    if (captures_under_way <= 0) return CUDA_SUCCESS;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    const CUresult failure = shim::forward_cuStreamIsCapturing(stream, &status);
    capturing = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return status == CU_STREAM_CAPTURE_STATUS_INVALIDATED ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : failure;
}

namespace shim {

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    if (!mode || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::swap(*mode, thread_mode);
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode) {
    if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::begin_capture);
    call.handle(Kind::stream, hStream);
    call.ask();
    if (!call.result()) ++captures_under_way;
    return call.result();
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph* phGraph) {
    if (!phGraph) return CUDA_ERROR_INVALID_VALUE;
    *phGraph = nullptr;
    Call call(Op::end_capture);
    call.handle(Kind::stream, hStream);
    if (call.ask()) call.take_handles(Kind::graph, phGraph, 1);
    // A capture that was invalidated is over as well; a stream that was not capturing changes nothing.
    if (call.result() != CUDA_ERROR_ILLEGAL_STATE && call.result() != CUDA_ERROR_INVALID_HANDLE) --captures_under_way;
    return call.result();
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus* captureStatus) {
    if (!captureStatus) return CUDA_ERROR_INVALID_VALUE;
    if (captures_under_way > 0) return forward_cuStreamIsCapturing(hStream, captureStatus);
    if (const CUresult failure = check_stream(hStream)) return failure;
    *captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus* captureStatus_out, cuuint64_t* id_out) {
    if (!captureStatus_out) return CUDA_ERROR_INVALID_VALUE;
    if (captures_under_way > 0) return forward_cuStreamGetCaptureInfo(hStream, captureStatus_out, id_out);
    if (const CUresult failure = check_stream(hStream)) return failure;
    *captureStatus_out = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
