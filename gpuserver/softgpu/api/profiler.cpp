// Profiler control: there is nothing to profile with, so starting and stopping change nothing.
#include "api/entry.h"
#include "device/context.h"

using namespace softgpu;

extern "C" __attribute__((visibility("default"))) CUresult CUDAAPI cuProfilerStart(void) {
    return entry(__func__, [&] { Context::require_current(); });
}

extern "C" __attribute__((visibility("default"))) CUresult CUDAAPI cuProfilerStop(void) {
    return entry(__func__, [&] { Context::require_current(); });
}
