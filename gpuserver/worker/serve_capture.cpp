// Stream capture. The program's capture mode says which calls of which threads are forbidden meanwhile; here one
// dispatcher makes everybody's calls, so the worker captures in relaxed mode and the client keeps the program's rules.
#include "session.h"

namespace gpuferry::worker {

void serve_begin_capture(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
}

// What a stream adds from now on goes to a graph that is there already.
void serve_begin_capture_to_graph(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto graph = in.handle<CUgraph>(Kind::graph);
    const auto count = in.value<uint64_t>();
    const auto* nodes = in.handles<CUgraphNode>(Kind::graph_node, count);
    const auto* edges = in.into<CUgraphEdgeData>(count);
    if (!in.good() || !graph) return out.refuse(in);
    out.result = driver.cuStreamBeginCaptureToGraph(stream, graph, nodes, edges, count, CU_STREAM_CAPTURE_MODE_RELAXED);
}

// Status and id of a capture, its graph, and the nodes that what comes next depends on.
void serve_capture_info(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    const bool with_edges = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    cuuint64_t id = 0;
    CUgraph graph = nullptr;
    const CUgraphNode* nodes = nullptr;
    const CUgraphEdgeData* edges = nullptr;
    size_t count = 0;
    out.result = with_edges ? driver.cuStreamGetCaptureInfo_v3(stream, &status, &id, &graph, &nodes, &edges, &count)
                            : driver.cuStreamGetCaptureInfo_v2(stream, &status, &id, &graph, &nodes, &count);
    if (out.result) return;
    if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE) count = 0, graph = nullptr, id = 0;
    Encoder answer(out.payload);
    answer.put<int64_t>(status);
    answer.put<uint64_t>(id);
    out.put_handle(in, Kind::graph, graph, 0);
    const Handle owner = in.session.objects.known(Kind::graph, graph);
    answer.put<uint64_t>(count);
    for (size_t i = 0; i < count; ++i) out.put_handle(in, Kind::graph_node, nodes[i], owner);
    answer.put<uint64_t>(edges ? count : 0);
    answer.put_bytes(edges, edges ? count * sizeof *edges : 0);
}

void serve_end_capture(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    CUgraph graph = nullptr;
    out.result = driver.cuStreamEndCapture(stream, &graph);
    out.put_handle(in, Kind::graph, graph, 0);
}

}  // namespace gpuferry::worker
