// Stream capture. The program's capture mode says which calls of which threads are forbidden meanwhile; here one
// dispatcher makes everybody's calls, so the worker captures in relaxed mode and the client keeps the program's rules.
#include "session.h"

namespace gpuferry::worker {

void serve_begin_capture(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
}

void serve_end_capture(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    CUgraph graph = nullptr;
    out.result = driver.cuStreamEndCapture(stream, &graph);
    out.put_handle(in, Kind::graph, graph, 0);
}

}  // namespace gpuferry::worker
