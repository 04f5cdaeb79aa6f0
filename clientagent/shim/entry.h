// What every exported call passes on its way in and out: is CUDA initialised here, counts, traces.
#pragma once

#include <atomic>

#include "contexts.h"

namespace gpuferry {

// Non-zero when calls must take the slow way in: not initialised, forked, counting or tracing.
extern std::atomic<uint32_t> entry_mode;

CUresult enter_slowly(Op op, bool before_init);
void leave_slowly(Op op, CUresult result);
// For cuLogs*: which call failed with what.
void log_failure(Op op, CUresult result);

inline CUresult enter(Op op, bool before_init) {
    if (entry_mode.load(std::memory_order_acquire) == 0) [[likely]]
        return CUDA_SUCCESS;
    return enter_slowly(op, before_init);
}
inline CUresult leave(Op op, CUresult result) {
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_READY) [[unlikely]]
        log_failure(op, result);
    if (entry_mode.load(std::memory_order_relaxed) != 0) leave_slowly(op, result);
    return result;
}

// Logs the call's name once in the life of the process and says CUDA_ERROR_NOT_SUPPORTED.
CUresult not_supported(Op op);
// Logs the call's name and why it is refused once in the life of the process, and gives `answer` back.
CUresult refused(Op op, CUresult answer, const char* answer_name, const char* reason);

// GPUFERRY_TRACE: an error of an earlier posted call is reported by this call.
void trace_latched(Op reporter, Op source, int error);

// After cuInit: calls take the fast way unless something asks for the slow one.
void update_entry_mode();

}  // namespace gpuferry
