// The guard that every driver entry point goes through: `return entry(__func__, [&] { ... });`
//
// It refuses calls before cuInit and in a forked child, and lets no exception leave the library.
#pragma once

#include <type_traits>

#include "device/cuda_types.h"
#include "device/error.h"
#include "device/handle.h"

namespace softgpu {

// What an entry point needs before its body may run.
enum class EntryNeeds {
    nothing,          // may be called at any time: cuInit, cuDriverGetVersion, cuGetErrorName ...
    initialised,      // after cuInit, in the process that called it
    outside_callback  // the same, and not from within a host function (synchronising and enqueueing calls)
};

// CUDA_SUCCESS, or the reason why the call may not go on.
CUresult check_entry(const char* name, EntryNeeds needs) noexcept;
// The result of the exception in flight; logs it.
CUresult translate_exception(const char* name) noexcept;
// Logs a failed call at debug level, passes the result through.
CUresult finish_entry(const char* name, CUresult result) noexcept;

// Runs `body` (returning CUresult or nothing) as the entry point `name`.
template <class Body>
CUresult entry(const char* name, EntryNeeds needs, Body&& body) noexcept {
    if (const CUresult refused = check_entry(name, needs); refused != CUDA_SUCCESS) return refused;
    try {
        if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
            body();
            return finish_entry(name, CUDA_SUCCESS);
        } else {
            return finish_entry(name, body());
        }
    } catch (...) {
        return translate_exception(name);
    }
}

template <class Body>
CUresult entry(const char* name, Body&& body) noexcept {
    return entry(name, EntryNeeds::initialised, static_cast<Body&&>(body));
}

}  // namespace softgpu
