// What the driver remembers of each thread of the program.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "device/cuda_types.h"

namespace softgpu {

class Context;
class Stream;

struct ThreadState {
    std::vector<std::shared_ptr<Context>> contexts;       // the stack; the last is current
    std::map<uint64_t, std::shared_ptr<Stream>> streams;  // context id → the thread's default stream
    CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
};

// Made at the thread's first use; freed when the thread ends. At exit of the process it stays, because exit handlers
// still call the driver.
ThreadState& thread_state();

}  // namespace softgpu
