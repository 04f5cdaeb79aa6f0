// Work in a stream of one server that concerns memory of another. No GPU of one reaches the other's memory, so the
// bytes pass through this process: after all that the stream has before them, and there when the call returns.
#pragma once

#include "call.h"
#include "capture.h"
#include "device_memory.h"
#include "shim_calls.h"

namespace gpuferry {

// The context whose default stream orders work on the memory at an address; null where there is no memory.
const Context* context_around(CUdeviceptr address);

// Whether the memory at a device address is on another server than the stream.
bool is_elsewhere(CUdeviceptr address, CUstream stream);

// Does something in another context, after all that the stream has before it, and waits until it is done.
template <class Work>
CUresult do_elsewhere(const Context* context, CUstream stream, Work work) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    bool capturing = false;
    if (const CUresult failure = ask_capturing(stream, capturing)) return failure;
    if (capturing) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (const CUresult failure = shim::cuStreamSynchronize(stream)) return failure;
    const ContextScope scope(*context);
    if (const CUresult failure = work()) return failure;
    return shim::cuStreamSynchronize(nullptr);
}

// Does `work(stream)` where the memory at an address is: in the stream, or in the default stream of its own GPU.
template <class Work>
CUresult do_where(CUdeviceptr address, CUstream stream, Work work) {
    if (!is_elsewhere(address, stream)) return work(stream);
    return do_elsewhere(context_around(address), stream, [&] { return work(CUstream{}); });
}

// Copies between memory of two servers, each side in the default stream of its context, and waits until it is done.
CUresult copy_between(CUdeviceptr to, const Context& to_context, CUdeviceptr from, const Context& from_context,
                      size_t size);

}  // namespace gpuferry
