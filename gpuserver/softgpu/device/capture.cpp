// Stream capture.
#include "device/capture.h"

#include <algorithm>
#include <string>

#include "device/error.h"
#include "device/thread_state.h"

namespace softgpu {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

std::atomic<int> active_captures{0};

std::vector<std::shared_ptr<Capture>>& captures() {
    static auto& all = *new std::vector<std::shared_ptr<Capture>>;
    return all;
}

void add_edges(Capture::Frontier& frontier, const Capture::Frontier& more) {
    for (const auto& edge : more) {
        const bool there =
            std::any_of(frontier.begin(), frontier.end(), [&](const auto& other) { return other.node == edge.node; });
        if (!there) frontier.push_back(edge);
    }
}

[[noreturn]] void invalidate(Capture& capture, CUresult code, const char* why) {
    capture.invalidated = true;
    throw DriverError(code, why);
}

// Takes every stream out of the capture.
void finish(Capture& capture) {
    for (const auto& weak : capture.streams) {
        if (auto stream = weak.lock()) stream->set_capture(nullptr);
    }
    std::erase_if(captures(), [&](const auto& other) { return other.get() == &capture; });
    active_captures.fetch_sub(1);
}

void join(Capture& capture, const std::shared_ptr<Stream>& stream) {
    stream->set_capture(capture.shared_from_this());
    capture.streams.push_back(stream);
}

void start(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& capture, Capture::Frontier frontier) {
    static std::atomic<uint64_t> next{1};
    capture->id = next.fetch_add(1);
    capture->origin = stream;
    capture->frontiers[stream.get()] = std::move(frontier);
    join(*capture, stream);
    captures().push_back(capture);
    active_captures.fetch_add(1);
}

void check_may_begin(const std::shared_ptr<Stream>& stream, CUstreamCaptureMode mode) {
    check_value(mode == CU_STREAM_CAPTURE_MODE_GLOBAL || mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL ||
                    mode == CU_STREAM_CAPTURE_MODE_RELAXED,
                "unknown capture mode");
    if (stream->type() == Stream::Type::legacy) {
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
    }
    if (stream->capture()) throw DriverError(CUDA_ERROR_ILLEGAL_STATE, "the stream is being captured already");
}

}  // namespace

Capture::Capture(std::shared_ptr<Graph> target, CUstreamCaptureMode capture_mode)
    : graph(std::move(target)), mode(capture_mode), thread(std::this_thread::get_id()) {}

bool capture_work(Stream& stream, const std::function<Work()>& make) {
    if (!active_captures.load(std::memory_order_acquire)) return false;
    const Lock lock(graph_mutex());
    const auto capture = stream.capture();
    if (!capture) {
        if (stream.type() != Stream::Type::legacy) return false;
        for (const auto& other : captures()) {
            for (const auto& weak : other->streams) {
                const auto member = weak.lock();
                if (member && member->blocking() && &member->context() == &stream.context()) {
                    invalidate(*other, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                               "the legacy stream would wait for a stream that is being captured");
                }
            }
        }
        return false;
    }
    if (capture->invalidated) throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    auto& frontier = capture->frontiers[&stream];
    NodePtr node = capture->graph->add(make(), frontier);
    capture->captured.push_back(node);
    frontier = {{node, {}}};
    return true;
}

void forbid_during_capture() {
    if (!active_captures.load(std::memory_order_acquire)) return;
    const CUstreamCaptureMode own = thread_state().capture_mode;
    if (own == CU_STREAM_CAPTURE_MODE_RELAXED) return;
    const Lock lock(graph_mutex());
    bool forbidden = false;
    for (const auto& capture : captures()) {
        const bool mine = capture->thread == std::this_thread::get_id();
        const bool counts = (mine && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) ||
                            (own == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
        if (counts) {
            capture->invalidated = true;
            forbidden = true;
        }
    }
    if (forbidden) {
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the call is not permitted while a stream captures");
    }
}

void forbid_on_capturing(const Stream& stream) {
    if (!active_captures.load(std::memory_order_acquire)) return;
    const Lock lock(graph_mutex());
    if (const auto capture = stream.capture()) {
        invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
    }
    if (stream.type() != Stream::Type::legacy) return;
    for (const auto& capture : captures()) {
        for (const auto& weak : capture->streams) {
            const auto member = weak.lock();
            if (member && member->blocking() && &member->context() == &stream.context()) {
                invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                           "the legacy stream would wait for a stream that is being captured");
            }
        }
    }
}

void forbid_captured(const Event& event) {
    const auto captured = event.captured();
    if (!captured) return;
    const Lock lock(graph_mutex());
    const auto capture = captured->capture.lock();
    if (capture) capture->invalidated = true;
    throw DriverError(CUDA_ERROR_CAPTURED_EVENT, "the event's latest recording was captured");
}

bool capture_record(Stream& stream, const std::shared_ptr<Event>& event, bool external) {
    if (!active_captures.load(std::memory_order_acquire)) return false;
    if (external) return capture_work(stream, [&] { return RecordWork{event}; });
    const Lock lock(graph_mutex());
    const auto capture = stream.capture();
    if (!capture) {
        capture_work(stream, [] { return EmptyWork{}; });  // legacy stream: refused when it must be
        return false;
    }
    if (capture->invalidated) throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    auto captured = std::make_shared<Event::Captured>();
    captured->capture = capture;
    for (const auto& edge : capture->frontiers[&stream]) captured->nodes.push_back(edge.node->handle_value());
    event->set_captured(std::move(captured));
    return true;
}

bool capture_wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event, bool external) {
    if (!active_captures.load(std::memory_order_acquire)) {
        if (event->captured()) {
            throw DriverError(CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture that is over");
        }
        return false;
    }
    const Lock lock(graph_mutex());
    const auto mine = stream->capture();
    const auto captured = event->captured();
    const auto theirs = captured ? captured->capture.lock() : nullptr;
    if (mine && mine->invalidated) {
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    }
    if (external && mine) return capture_work(*stream, [&] { return WaitWork{event}; });
    if (!captured) {
        if (!mine) {
            capture_work(*stream, [] { return EmptyWork{}; });
            return false;
        }
        if (!event->latest()) return true;  // never recorded: nothing to wait for
        invalidate(*mine, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "the event was recorded outside the capture");
    }
    const bool over = !theirs || std::none_of(captures().begin(), captures().end(),
                                              [&](const auto& capture) { return capture == theirs; });
    if (over) throw DriverError(CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture that is over");
    if (mine && mine != theirs) {
        theirs->invalidated = true;
        invalidate(*mine, CUDA_ERROR_STREAM_CAPTURE_MERGE, "the wait would merge two captures");
    }
    if (theirs->invalidated) throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    if (!mine) {
        if (stream->type() == Stream::Type::legacy) {
            invalidate(*theirs, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the legacy stream cannot join a capture");
        }
        join(*theirs, stream);
    }
    Capture::Frontier more;
    for (const uint64_t node : captured->nodes) {
        if (auto found = find<GraphNode>(to_handle<CUgraphNode>(node))) more.push_back({found, {}});
    }
    add_edges(theirs->frontiers[stream.get()], more);
    return true;
}

void begin_capture(const std::shared_ptr<Stream>& stream, CUstreamCaptureMode mode) {
    const Lock lock(graph_mutex());
    check_may_begin(stream, mode);
    auto graph = Graph::create();
    auto capture = std::make_shared<Capture>(graph, mode);
    capture->published = handle_of(*graph);
    start(stream, capture, {});
}

void begin_capture_to_graph(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Graph>& graph,
                            Capture::Frontier dependencies, CUstreamCaptureMode mode) {
    const Lock lock(graph_mutex());
    check_may_begin(stream, mode);
    for (const auto& edge : dependencies) {
        check_value(edge.node->graph == graph.get(), "a dependency is of another graph");
    }
    auto capture = std::make_shared<Capture>(graph, mode);
    capture->published = handle_of(*graph);
    capture->into_given_graph = true;
    start(stream, capture, std::move(dependencies));
}

CUgraph end_capture(const std::shared_ptr<Stream>& stream) {
    const Lock lock(graph_mutex());
    const auto capture = stream->capture();
    if (!capture) throw DriverError(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
    if (capture->origin.lock() != stream) {
        capture->invalidated = true;
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began in another stream");
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id()) {
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread");
    }
    finish(*capture);
    const auto discard = [&] {
        if (!capture->into_given_graph) destroy_graph(capture->graph);
    };
    if (capture->invalidated) {
        discard();
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was invalidated");
    }
    const auto& joined = capture->frontiers[stream.get()];
    for (const auto& node : capture->captured) {
        if (!node->graph || !node->dependents.empty()) continue;
        const bool is_joined =
            std::any_of(joined.begin(), joined.end(), [&](const auto& edge) { return edge.node == node; });
        if (is_joined) continue;
        discard();
        throw DriverError(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "a forked stream was not joined to the first");
    }
    return capture->published;
}

}  // namespace softgpu
