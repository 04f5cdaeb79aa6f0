// cuGetProcAddress: name + CUDA version + stream flags → the entry point of that version.
#include <algorithm>
#include <cstring>
#include <string_view>

#include "config.h"
#include "exports/entry_points.h"
#include "log.h"

namespace softgpu {
namespace {

struct Answer {
    void* function = nullptr;
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
};

// The look-ups themselves are not traced: a runtime makes hundreds.
void* callable(const EntryPoint& entry) {
    bool wanted = tracing() && !std::string_view(entry.name).starts_with("cuGetProcAddress");
    return wanted ? traced_function(entry.symbol) : entry.function;
}

// The newest entry of `name` that `version` and this device's driver version know. A name without a per-thread variant
// has one entry point for both kinds of default stream.
Answer look_up(std::string_view name, int version, bool per_thread) {
    auto table = entry_points();
    auto first = std::lower_bound(table.begin(), table.end(), name,
                                  [](const EntryPoint& entry, std::string_view key) { return entry.name < key; });
    int known = config().driver_version;
    const EntryPoint* best = nullptr;
    Answer answer;
    for (auto entry = first; entry != table.end() && entry->name == name; ++entry) {
        if (entry->since > known) continue;
        answer.status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
        if (entry->since > version || (entry->per_thread && !per_thread)) continue;
        if (!best || entry->per_thread > best->per_thread ||
            (entry->per_thread == best->per_thread && entry->since > best->since)) {
            best = &*entry;
        }
    }
    if (best) answer = {callable(*best), CU_GET_PROC_ADDRESS_SUCCESS};
    return answer;
}

CUresult get_proc_address(const char* symbol, void** function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult* status) {
    constexpr cuuint64_t known_flags =
        CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (!symbol || !function || (flags & ~known_flags) || flags == known_flags) return CUDA_ERROR_INVALID_VALUE;
    Answer answer = look_up(symbol, version, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
    *function = answer.function;
    if (status) *status = answer.status;
    if (!answer.function && tracing()) {
        log_line(LogLevel::trace,
                 "cuGetProcAddress(" + std::string(symbol) + "@" + std::to_string(version) + ") finds no entry point");
    }
    return answer.function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

}  // namespace
}  // namespace softgpu

extern "C" {

CUresult CUDAAPI cuGetProcAddress(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags) {
    return softgpu::get_proc_address(symbol, pfn, cudaVersion, flags, nullptr);
}

CUresult CUDAAPI cuGetProcAddress_v2(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                                     CUdriverProcAddressQueryResult* symbolStatus) {
    return softgpu::get_proc_address(symbol, pfn, cudaVersion, flags, symbolStatus);
}
}
