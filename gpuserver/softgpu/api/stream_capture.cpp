// Stream capture.
#include "api/graph_params.h"
#include "device/capture.h"
#include "device/thread_state.h"

using namespace softgpu;

namespace {

CUstreamCaptureStatus status_of(const Capture* capture) {
    if (!capture) return CU_STREAM_CAPTURE_STATUS_NONE;
    return capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

struct CaptureQuery {
    cuuint64_t* id = nullptr;
    CUgraph* graph = nullptr;
    const CUgraphNode** nodes = nullptr;
    const CUgraphEdgeData** data = nullptr;
    size_t* count = nullptr;
};

void tell(CUstream handle, CUstreamCaptureStatus* status, const CaptureQuery& query) {
    const GraphLock lock(graph_mutex());
    const auto stream = require_stream(handle);
    check_value(status, "captureStatus_out is NULL");
    const auto capture = stream->capture();
    *status = status_of(capture.get());
    if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return;
    if (query.id) *query.id = capture->id;
    if (query.graph) *query.graph = capture->published;
    capture->shown_nodes.clear();
    capture->shown_edges.clear();
    bool plain = true;
    for (const auto& edge : capture->frontiers[stream.get()]) {
        capture->shown_nodes.push_back(handle_of(*edge.node));
        capture->shown_edges.push_back(edge.data);
        plain = plain && edge.data.from_port == 0 && edge.data.to_port == 0 && edge.data.type == 0;
    }
    if (query.nodes && !query.data && !plain) {
        throw DriverError(CUDA_ERROR_LOSSY_QUERY, "the edges carry data, for which there is no room");
    }
    if (query.nodes) *query.nodes = capture->shown_nodes.data();
    if (query.data) *query.data = capture->shown_edges.data();
    if (query.count) *query.count = capture->shown_nodes.size();
}

void update(CUstream handle, CUgraphNode* nodes, const CUgraphEdgeData* data, size_t count, unsigned flags) {
    const GraphLock lock(graph_mutex());
    const auto stream = require_stream(handle);
    const auto capture = stream->capture();
    if (!capture) throw DriverError(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
    if (capture->invalidated) throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    check_value(flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES || flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES,
                "unknown flags");
    auto edges = edges_from(nodes, data, count);
    for (const auto& edge : edges) {
        check_value(edge.node->graph == capture->graph.get(), "a dependency is of another graph");
    }
    auto& frontier = capture->frontiers[stream.get()];
    if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) frontier.clear();
    for (auto& edge : edges) {
        const bool there =
            std::any_of(frontier.begin(), frontier.end(), [&](const auto& other) { return other.node == edge.node; });
        if (!there) frontier.push_back(std::move(edge));
    }
}

}  // namespace

extern "C" CUresult CUDAAPI cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode) {
    return entry(__func__, [&] { begin_capture(require_stream(hStream), mode); });
}

extern "C" CUresult CUDAAPI cuStreamBeginCapture(CUstream hStream) {
    return cuStreamBeginCapture_v2(hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

extern "C" CUresult CUDAAPI cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph,
                                                        const CUgraphNode* dependencies,
                                                        const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                                        CUstreamCaptureMode mode) {
    return entry(__func__, [&] {
        const GraphLock lock(graph_mutex());
        begin_capture_to_graph(require_stream(hStream), require<Graph>(hGraph),
                               edges_from(dependencies, dependencyData, numDependencies), mode);
    });
}

extern "C" CUresult CUDAAPI cuStreamEndCapture(CUstream hStream, CUgraph* phGraph) {
    return entry(__func__, [&] {
        check_value(phGraph, "phGraph is NULL");
        *phGraph = nullptr;
        *phGraph = end_capture(require_stream(hStream));
    });
}

extern "C" CUresult CUDAAPI cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus* captureStatus) {
    return entry(__func__, [&] { tell(hStream, captureStatus, {}); });
}

extern "C" CUresult CUDAAPI cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                                   cuuint64_t* id_out) {
    return entry(__func__, [&] { tell(hStream, captureStatus_out, {id_out}); });
}

extern "C" CUresult CUDAAPI cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                                      cuuint64_t* id_out, CUgraph* graph_out,
                                                      const CUgraphNode** dependencies_out,
                                                      size_t* numDependencies_out) {
    return entry(__func__, [&] {
        tell(hStream, captureStatus_out, {id_out, graph_out, dependencies_out, nullptr, numDependencies_out});
    });
}

extern "C" CUresult CUDAAPI cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                                      cuuint64_t* id_out, CUgraph* graph_out,
                                                      const CUgraphNode** dependencies_out,
                                                      const CUgraphEdgeData** edgeData_out,
                                                      size_t* numDependencies_out) {
    return entry(__func__, [&] {
        tell(hStream, captureStatus_out, {id_out, graph_out, dependencies_out, edgeData_out, numDependencies_out});
    });
}

extern "C" CUresult CUDAAPI cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode* dependencies,
                                                              size_t numDependencies, unsigned flags) {
    return entry(__func__, [&] { update(hStream, dependencies, nullptr, numDependencies, flags); });
}

extern "C" CUresult CUDAAPI cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode* dependencies,
                                                                 const CUgraphEdgeData* dependencyData,
                                                                 size_t numDependencies, unsigned flags) {
    return entry(__func__, [&] { update(hStream, dependencies, dependencyData, numDependencies, flags); });
}

extern "C" CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    return entry(__func__, [&] {
        check_value(mode && *mode >= CU_STREAM_CAPTURE_MODE_GLOBAL && *mode <= CU_STREAM_CAPTURE_MODE_RELAXED,
                    "unknown capture mode");
        std::swap(*mode, thread_state().capture_mode);
    });
}
