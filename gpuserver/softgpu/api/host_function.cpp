// Functions of the program that run in a stream's order, on the stream's thread.
#include "api/entry.h"
#include "device/capture.h"
#include "device/stream.h"
#include "device/work.h"

using namespace softgpu;

namespace {

void launch_host_function(CUstream handle, CUhostFn function, void* data) {
    const auto stream = require_stream(handle);
    check_value(function, "fn is NULL");
    if (capture_work(*stream, [&] { return HostWork{function, data}; })) return;
    Operation operation;
    operation.on_worker = true;
    operation.run = [function, data, context = &stream->context()] {
        context->flush_print();
        perform_host_function(function, data);
    };
    stream->enqueue(std::move(operation));
}

}  // namespace

extern "C" CUresult CUDAAPI cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void* userData) {
    return entry(__func__, EntryNeeds::outside_callback, [&] { launch_host_function(hStream, fn, userData); });
}

extern "C" CUresult CUDAAPI cuLaunchHostFunc_v2(CUstream hStream, CUhostFn fn, void* userData, unsigned) {
    return entry(__func__, EntryNeeds::outside_callback, [&] { launch_host_function(hStream, fn, userData); });
}

extern "C" CUresult CUDAAPI cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void* userData,
                                                unsigned flags) {
    return entry(__func__, EntryNeeds::outside_callback, [&] {
        const auto stream = require_stream(hStream);
        check_value(callback && flags == 0, "callback is NULL or flags are not 0");
        forbid_on_capturing(*stream);
        Operation operation;
        operation.on_worker = true;
        operation.even_failed = true;  // it is told of the failure
        operation.run = [callback, userData, hStream, context = &stream->context()] {
            context->flush_print();
            const HostFunctionScope scope;
            callback(hStream, context->failure(), userData);
        };
        stream->enqueue(std::move(operation));
    });
}
