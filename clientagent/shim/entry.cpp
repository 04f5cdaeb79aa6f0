#include "entry.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver_log.h"
#include "host_functions.h"
#include "shim_calls.h"
#include "stats.h"

namespace gpuferry {
namespace {

bool is_set(const char* name) {
    const char* value = std::getenv(name);
    return value && *value && std::strcmp(value, "0") != 0;
}

bool tracing() {
    static const bool on = is_set("GPUFERRY_TRACE");
    return on;
}

bool counting() {
    static const bool on = is_set("GPUFERRY_STATS");
    return on;
}

// Whether this call is the first of its kind in the life of the process.
bool first_time(Op op) {
    static std::atomic<bool> said[static_cast<int>(Op::count)];
    return !said[static_cast<int>(op)].exchange(true);
}

}  // namespace

std::atomic<uint32_t> entry_mode = 1;

void update_entry_mode() {
    const bool ready = client().state() == ClientState::ready;
    entry_mode.store(!ready || tracing() || counting() || host_functions_used(), std::memory_order_release);
}

CUresult enter_slowly(Op op, bool before_init) {
    if (counting()) count_call(op);
    switch (client().state()) {
        case ClientState::ready:
            return inside_host_function() && !before_init ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
        case ClientState::not_initialised:
        case ClientState::forked:
            return before_init ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
    }
    return CUDA_ERROR_UNKNOWN;
}

void leave_slowly(Op op, CUresult result) {
    if (tracing()) std::fprintf(stderr, "gpuferry: %s = %d\n", op_name(op), static_cast<int>(result));
}

void log_failure(Op op, CUresult result) {
    const char* name = nullptr;
    shim::cuGetErrorName(result, &name);
    driver_log().add(CU_LOG_LEVEL_ERROR, std::string(op_name(op)) + ": " + (name ? name : "an unknown error"));
}

CUresult not_supported(Op op) {
    if (first_time(op)) {
        say(std::string(op_name(op)) + " is not supported yet: the program gets CUDA_ERROR_NOT_SUPPORTED");
    }
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult refused(Op op, CUresult answer, const char* answer_name, const char* reason) {
    if (first_time(op)) {
        say(std::string(op_name(op)) + " is refused, the program gets " + answer_name + ": " + reason);
    }
    return answer;
}

void trace_latched(Op reporter, Op source, int error) {
    if (tracing()) {
        std::fprintf(stderr, "gpuferry: %s reports error %d of an earlier %s\n", op_name(reporter), error,
                     op_name(source));
    }
}

}  // namespace gpuferry
