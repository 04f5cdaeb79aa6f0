// cuGetProcAddress: name + CUDA version + stream flags → the entry point of that version.
#include "entry_points.h"

#include <algorithm>
#include <string_view>

#include "entry.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct Answer {
    void* function = nullptr;
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
};

// The newest entry of `name` that is no newer than `version`. A name without a per-thread variant has one entry point
// for both kinds of default stream.
Answer look_up(std::string_view name, int version, bool per_thread) {
    const auto table = entry_points();
    const auto first = std::lower_bound(table.begin(), table.end(), name,
                                        [](const EntryPoint& entry, std::string_view key) { return entry.name < key; });
    const EntryPoint* best = nullptr;
    Answer answer;
    for (auto entry = first; entry != table.end() && entry->name == name; ++entry) {
        answer.status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
        if (entry->since > version || (entry->per_thread && !per_thread)) continue;
        if (!best || entry->per_thread > best->per_thread ||
            (entry->per_thread == best->per_thread && entry->since > best->since)) {
            best = &*entry;
        }
    }
    if (best) answer = {best->function, CU_GET_PROC_ADDRESS_SUCCESS};
    return answer;
}

}  // namespace

namespace shim {

CUresult cuGetProcAddress_v2(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* symbolStatus) {
    constexpr cuuint64_t known = CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (!symbol || !pfn || (flags & ~known) || flags == known) return CUDA_ERROR_INVALID_VALUE;
    const Answer answer = look_up(symbol, cudaVersion, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
    *pfn = answer.function;
    if (symbolStatus) *symbolStatus = answer.status;
    return answer.function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags) {
    return cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, nullptr);
}

}  // namespace shim
}  // namespace gpuferry
