// Contexts: the primary ones, which the worker retains from the start, and those that the program makes.
#include "session.h"

namespace gpuferry::worker {

void serve_create_context(Request& in, Answer& out) {
    const Handle name = in.name(Kind::context);
    const auto flags = in.value<uint32_t>();
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size()) return out.refuse(in);
    CUcontext made = nullptr;
    out.result = driver.cuCtxCreate_v2(&made, flags, session.devices[device].device);
    in.bind(name, out.result, made, 0);
    driver.cuCtxSetCurrent(session.current());  // creation made the new context current
}

void serve_destroy_context(Request& in, Answer& out) {
    const auto context = in.handle<CUcontext>(Kind::context);
    Session& session = in.session;
    for (const SessionDevice& device : session.devices) {
        if (context == device.primary) in.fail(CUDA_ERROR_INVALID_CONTEXT);
    }
    if (!in.good() || !context) return out.refuse(in);
    session.staging.forget(context);
    if (context == session.current()) session.make_current(0);
    out.result = driver.cuCtxDestroy_v2(context);
    in.forget(Kind::context);
}

void serve_set_primary_flags(Request& in, Answer& out) {
    const auto device = in.value<uint64_t>();
    const auto flags = in.value<uint32_t>();
    if (!in.good() || device >= in.session.devices.size()) return out.refuse(in);
    out.result = driver.cuDevicePrimaryCtxSetFlags_v2(in.session.devices[device].device, flags);
}

// The client released its last hold, or reset the context: all that was made in it is gone.
void serve_reset_primary(Request& in, Answer& out) {
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size()) return out.refuse(in);
    SessionDevice& own = session.devices[device];
    const Handle name = session.objects.name_of(Kind::context, own.primary, 0);
    session.reaper.drain();
    session.staging.forget(own.primary);
    out.result = driver.cuDevicePrimaryCtxReset_v2(own.device);
    CUcontext again = nullptr;
    if (driver.cuDevicePrimaryCtxRetain(&again, own.device)) session.end("the GPU is lost");
    driver.cuDevicePrimaryCtxRelease_v2(own.device);  // the reset did not take back the first retaining
    session.objects.replace(name, again);
    own.primary = again;
    session.make_current(0);
}

}  // namespace gpuferry::worker
