// Stream capture: operations given to a capturing stream become nodes of a graph.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "device/graph.h"
#include "device/stream.h"
#include "device/work.h"

namespace softgpu {

class Capture final : public std::enable_shared_from_this<Capture> {
  public:
    // The nodes that the next operation of a stream depends on.
    using Frontier = std::vector<GraphNode::Edge>;

    Capture(std::shared_ptr<Graph> graph, CUstreamCaptureMode mode);

    uint64_t id = 0;
    std::shared_ptr<Graph> graph;
    CUstreamCaptureMode mode;
    std::thread::id thread;
    std::weak_ptr<Stream> origin;
    bool into_given_graph = false;
    std::vector<std::shared_ptr<GraphNode>> captured;  // in order
    bool invalidated = false;
    std::unordered_map<const Stream*, Frontier> frontiers;
    std::vector<std::weak_ptr<Stream>> streams;
    CUgraph published = nullptr;  // handle of the graph while it is being captured
    // What cuStreamGetCaptureInfo hands out; lives until the next such call.
    std::vector<CUgraphNode> shown_nodes;
    std::vector<CUgraphEdgeData> shown_edges;
};

// Every call on captures and graphs holds this lock.
std::recursive_mutex& graph_mutex();

// If the stream captures, adds the node that `make` describes and returns true. Throws the capture's error when it is
// invalidated, STREAM_CAPTURE_IMPLICIT when the legacy stream is used while a blocking stream captures.
bool capture_work(Stream& stream, const std::function<Work()>& make);
// Throws STREAM_CAPTURE_UNSUPPORTED, and invalidates the captures concerned, when the calling thread may not make
// calls that capture does not record (cuThreadExchangeStreamCaptureMode).
void forbid_during_capture();
// Throws STREAM_CAPTURE_UNSUPPORTED and invalidates when this stream captures (synchronise, query).
void forbid_on_capturing(const Stream& stream);
// Throws CAPTURED_EVENT and invalidates when the event's latest recording was captured.
void forbid_captured(const Event& event);

// Recording an event in, and waiting for one from, a capturing stream. True when capture took care of it.
bool capture_record(Stream& stream, const std::shared_ptr<Event>& event, bool external);
bool capture_wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event, bool external);

void begin_capture(const std::shared_ptr<Stream>& stream, CUstreamCaptureMode mode);
void begin_capture_to_graph(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Graph>& graph,
                            Capture::Frontier dependencies, CUstreamCaptureMode mode);
// The captured graph, published. Throws the capture's errors; the capture is over in any case but the wrong thread's.
CUgraph end_capture(const std::shared_ptr<Stream>& stream);

}  // namespace softgpu
