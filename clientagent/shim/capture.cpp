// Stream capture. Which streams capture, and what, is the worker's driver's to know: beginning and ending are asked
// for. A process that has no capture under way answers questions about captures itself: cudart asks before every copy.
#include "capture.h"

#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "call.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct Capture {
    Handle stream = 0;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::thread::id thread;
    const Context* context = nullptr;
    unsigned long long context_id = 0;

    // A capture ends with its stream, and a stream with its context.
    [[nodiscard]] bool over() const {
        return (stream > 2 && !handles_table().living(Kind::stream, stream)) ||
               (context && (context->destroyed || context->id != context_id));
    }
};

std::atomic<int> captures_under_way = 0;
std::mutex lock;
std::vector<Capture>& captures() {
    static auto* all = new std::vector<Capture>;
    return *all;
}

void add_capture(CUstream stream, CUstreamCaptureMode mode) {
    const Handle resolved = resolve_stream(stream);
    const Context* context = current_context();
    const std::lock_guard held(lock);
    captures().push_back({resolved, mode, std::this_thread::get_id(), context, context ? context->id : 0});
    captures_under_way = static_cast<int>(captures().size());
}

void remove_capture(Handle stream) {
    const std::lock_guard held(lock);
    std::erase_if(captures(), [stream](const Capture& capture) { return capture.stream == stream; });
    captures_under_way = static_cast<int>(captures().size());
}

bool of_another_thread(Handle stream) {
    const std::lock_guard held(lock);
    for (const Capture& capture : captures()) {
        if (capture.stream != stream || capture.mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        return capture.thread != std::this_thread::get_id();
    }
    return false;
}

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

CUresult check_stream(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    if (resolved > 2 && !handles_table().living(Kind::stream, resolved)) return CUDA_ERROR_INVALID_HANDLE;
    return current_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace

bool capture_under_way() {
    return captures_under_way > 0;
}

CUresult forbid_during_capture() {
    if (captures_under_way <= 0 || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
    std::vector<Handle> failed;
    {
        const std::lock_guard held(lock);
        std::erase_if(captures(), [](const Capture& capture) { return capture.over(); });
        captures_under_way = static_cast<int>(captures().size());
        for (const Capture& capture : captures()) {
            const bool own = capture.thread == std::this_thread::get_id();
            if ((own && capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED) ||
                (thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL)) {
                failed.push_back(capture.stream);
            }
        }
    }
    for (const Handle stream : failed) {  // waiting for a stream that is captured fails its capture
        Call call(Op::wait_stream);
        call.handle(Kind::stream, from_handle<CUstream>(stream));
        call.ask();
    }
    return failed.empty() ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

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
    if (!call.result()) add_capture(hStream, mode);
    return call.result();
}

CUresult cuStreamBeginCapture(CUstream hStream) {
    return shim::cuStreamBeginCapture_v2(hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph, const CUgraphNode* dependencies,
                                     const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                     CUstreamCaptureMode mode) {
    if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    if (!hGraph || (numDependencies && !dependencies)) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::begin_capture_to_graph);
    call.handle(Kind::stream, hStream);
    call.handle(Kind::graph, hGraph);
    call.value<uint64_t>(numDependencies);
    call.handles(Kind::graph_node, dependencies, numDependencies);
    call.into(dependencyData, numDependencies);
    call.ask();
    if (!call.result()) add_capture(hStream, mode);
    return call.result();
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph* phGraph) {
    if (!phGraph) return CUDA_ERROR_INVALID_VALUE;
    *phGraph = nullptr;
    const Handle stream = resolve_stream(hStream);
    if (of_another_thread(stream)) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    Call call(Op::end_capture);
    call.handle(Kind::stream, hStream);
    if (call.ask()) call.take_handles(Kind::graph, phGraph, 1);
    // A capture that was invalidated is over as well; a stream that was not capturing changes nothing.
    if (call.result() != CUDA_ERROR_ILLEGAL_STATE && call.result() != CUDA_ERROR_INVALID_HANDLE) remove_capture(stream);
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

namespace {

// What cuStreamGetCaptureInfo tells; its arrays stay with the thread until the next call.
struct CaptureInfo {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    cuuint64_t id = 0;
    CUgraph graph = nullptr;
    std::vector<CUgraphNode> nodes;
    std::vector<CUgraphEdgeData> edges;
};

CUresult ask_capture_info(CUstream stream, bool with_edges, CaptureInfo*& place) {
    static thread_local auto& info = *new CaptureInfo;
    info = {};
    place = &info;
    if (captures_under_way <= 0) return check_stream(stream);
    Call call(Op::capture_info);
    call.handle(Kind::stream, stream);
    call.value<uint64_t>(with_edges);
    call.ask();
    if (call.result()) return call.result();
    Decoder& results = call.results();
    info.status = static_cast<CUstreamCaptureStatus>(results.take<int64_t>());
    info.id = results.take<uint64_t>();
    call.take_handles(Kind::graph, &info.graph, 1);
    info.nodes.resize(results.take<uint64_t>());
    call.take_handles(Kind::graph_node, info.nodes.data(), info.nodes.size());
    info.edges.resize(results.take<uint64_t>());
    call.take(info.edges.data(), info.edges.size());
    return CUDA_SUCCESS;
}

}  // namespace

namespace shim {

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus* captureStatus_out, cuuint64_t* id_out,
                                   CUgraph* graph_out, const CUgraphNode** dependencies_out,
                                   const CUgraphEdgeData** edgeData_out, size_t* numDependencies_out) {
    if (!captureStatus_out) return CUDA_ERROR_INVALID_VALUE;
    CaptureInfo* info = nullptr;
    const bool with_edges = edgeData_out || !dependencies_out;
    if (const CUresult failure = ask_capture_info(hStream, with_edges, info)) return failure;
    *captureStatus_out = info->status;
    if (info->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
    if (id_out) *id_out = info->id;
    if (graph_out) *graph_out = info->graph;
    if (dependencies_out) *dependencies_out = info->nodes.empty() ? nullptr : info->nodes.data();
    if (edgeData_out) *edgeData_out = info->edges.empty() ? nullptr : info->edges.data();
    if (numDependencies_out) *numDependencies_out = info->nodes.size();
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus* captureStatus_out, cuuint64_t* id_out,
                                   CUgraph* graph_out, const CUgraphNode** dependencies_out,
                                   size_t* numDependencies_out) {
    if (!captureStatus_out) return CUDA_ERROR_INVALID_VALUE;
    CaptureInfo* info = nullptr;
    if (const CUresult failure = ask_capture_info(hStream, false, info)) return failure;
    *captureStatus_out = info->status;
    if (info->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
    if (id_out) *id_out = info->id;
    if (graph_out) *graph_out = info->graph;
    if (dependencies_out) *dependencies_out = info->nodes.empty() ? nullptr : info->nodes.data();
    if (numDependencies_out) *numDependencies_out = info->nodes.size();
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
