// Calls that wait for streams and events, or ask whether they are done: one round trip each.
#include "call.h"
#include "quiet_work.h"
#include "shim_calls.h"
#include "stream_values.h"
#include "twins.h"

namespace gpuferry::shim {
namespace {

CUresult ask_about(Op op, Kind kind, Handle handle, uint64_t* number = nullptr) {
    Server& server = kind == Kind::stream                   ? server_of_stream(from_handle<CUstream>(handle))
                     : handles_table().living(kind, handle) ? client().server_of(handle)
                                                            : current_server();
    // Work that is waited for may itself wait for what the program has written to host memory.
    if (const CUresult failure = prepare_device_work(server)) return failure;
    Call call(op);
    call.handle(kind, handle);
    call.ask();
    if (number) *number = call.number();
    return call.result();
}

CUresult ask_about_event(Op op, CUevent event) {
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    return ask_about(op, Kind::event, to_handle(event));
}

}  // namespace

CUresult cuStreamSynchronize(CUstream hStream) {
    if (is_stream_idle(hStream)) return CUDA_SUCCESS;
    if (holds_only_quiet_work(hStream)) {
        Call call(Op::settle_stream);
        call.handle(Kind::stream, hStream);
        return call.post();
    }
    uint64_t number = 0;
    const CUresult result = ask_about(Op::wait_stream, Kind::stream, to_handle(hStream), &number);
    if (!result) {
        note_stream_idle(hStream, number);
        note_waits_over(hStream);
    }
    return result;
}
CUresult cuStreamQuery(CUstream hStream) {
    const CUresult result = ask_about(Op::query_stream, Kind::stream, to_handle(hStream));
    if (!result) note_waits_over(hStream);
    return result;
}
CUresult cuEventSynchronize(CUevent hEvent) {
    return ask_about_event(Op::wait_event, hEvent);
}
CUresult cuEventQuery(CUevent hEvent) {
    return ask_about_event(Op::query_event, hEvent);
}

}  // namespace gpuferry::shim
