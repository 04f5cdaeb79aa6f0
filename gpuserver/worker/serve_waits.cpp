// Calls that wait for the GPU. The dispatcher answers at once where there is nothing to wait for; else a waiter does.
#include "session.h"

namespace gpuferry::worker {

void serve_query_stream(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuStreamQuery(stream);
}

void serve_wait_stream(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuStreamQuery(stream);
    if (out.result != CUDA_ERROR_NOT_READY) return;
    out.later = true;
    in.session.reply_after(in.header.number, [stream] { return driver.cuStreamSynchronize(stream); });
}

// What is posted behind it finds the stream's work done. The client posts it for a stream that holds uploads alone, so
// that the wait is short and nothing but the device can hold it up.
void serve_settle_stream(Request& in, Answer& out) {
    const auto stream = in.handle<CUstream>(Kind::stream);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuStreamQuery(stream);
    if (out.result == CUDA_ERROR_NOT_READY) {
        out.result = in.session.host_functions.pending() ? CUDA_SUCCESS : driver.cuStreamSynchronize(stream);
    }
}

void serve_query_event(Request& in, Answer& out) {
    const auto event = in.handle<CUevent>(Kind::event);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuEventQuery(event);
}

void serve_wait_event(Request& in, Answer& out) {
    const auto event = in.handle<CUevent>(Kind::event);
    if (!in.good()) return out.refuse(in);
    out.result = driver.cuEventQuery(event);
    if (out.result != CUDA_ERROR_NOT_READY) return;
    out.later = true;
    in.session.reply_after(in.header.number, [event] { return driver.cuEventSynchronize(event); });
}

void serve_wait_context(Request& in, Answer& out) {
    if (!in.good() || !in.session.current()) return out.refuse(in);
    out.later = true;
    Session& session = in.session;
    const uint64_t number = in.header.number;
    session.reply_after(number, [&session, number] {
        const CUresult result = driver.cuCtxSynchronize();
        if (!result) session.note_idle(number);
        return result;
    });
}

}  // namespace gpuferry::worker
