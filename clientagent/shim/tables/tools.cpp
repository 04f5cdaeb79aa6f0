// Tables that profilers use, and that the runtime, cuBLAS and cuFFT ask a little of: flags that nobody has set, the
// current context, ids of contexts and streams, the functions of a module.
#include <vector>

#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

// The unit of the counts that the runtime gets is not known: the buffers are large enough for 32-bit words.
uint32_t function_flags[1024];
uint32_t domain_flags[16];

void get_function_flags(void** buffer, size_t* count) {
    *buffer = function_flags;
    *count = std::size(function_flags);
}

void get_domain_flags(void** buffer, size_t* count) {
    *buffer = domain_flags;
    *count = 14;
}

CUresult get_current_context(CUcontext* context) {
    return shim::cuCtxGetCurrent(context);
}

CUresult check_context(CUcontext, uint32_t* result, const void**) {
    if (!result) return CUDA_ERROR_INVALID_VALUE;
    *result = 0;
    return CUDA_SUCCESS;
}

uint32_t check() {
    return 0;
}

CUresult get_context_id(CUcontext context, uint32_t* id) {
    unsigned long long number = 0;
    const CUresult result = shim::cuCtxGetId(context, &number);
    if (!result && id) *id = static_cast<uint32_t>(number);
    return id ? result : CUDA_ERROR_INVALID_VALUE;
}

// What a stream is called in the answers of the two functions below.
Handle stream_name(CUstream stream) {
    const Handle resolved = resolve_stream(stream);
    return resolved ? resolved : to_handle(CU_STREAM_LEGACY);
}

CUresult resolve(CUcontext, CUstream stream, CUstream* resolved) {
    if (!resolved) return CUDA_ERROR_INVALID_VALUE;
    if (to_handle(stream) == ~Handle{0}) return CUDA_ERROR_INVALID_HANDLE;
    *resolved = from_handle<CUstream>(stream_name(stream));
    return CUDA_SUCCESS;
}

// Handles are never used again for long, so a stream's own name serves as its id.
CUresult get_stream_id(CUcontext, CUstream stream, uint64_t* id) {
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    *id = stream_name(stream);
    return CUDA_SUCCESS;
}

using Visitor = void (*)(void* user, CUfunction function, uint64_t owner);

uint32_t for_each_function(CUcontext, CUmodule module, Visitor visit, void* user) {
    unsigned count = 0;
    if (!visit || shim::cuModuleGetFunctionCount(&count, module) != CUDA_SUCCESS) return 0;
    std::vector<CUfunction> functions(count);
    if (count && shim::cuModuleEnumerateFunctions(functions.data(), count, module) != CUDA_SUCCESS) return 0;
    for (CUfunction function : functions) visit(user, function, 0);
    return count;
}

}  // namespace

const void* callback_hooks_table() {
    static auto& table =
        (*new SlotTable<"TOOLS_RUNTIME_CALLBACK_HOOKS", 7>).set(2, get_function_flags).set(6, get_domain_flags);
    return table.address();
}

const void* tools_tls_table() {
    static auto& table = (*new SlotTable<"TOOLS_TLS", 4>).set(2, get_current_context);
    return table.address();
}

const void* context_checks_table() {
    static auto& table = (*new SlotTable<"CONTEXT_CHECKS", 17>).set(2, check_context).set(3, check);
    return table.address();
}

const void* object_ids_table() {
    static auto& table =
        (*new SlotTable<"OBJECT_IDS", 96>).set(4, get_context_id).set(39, get_stream_id).set(51, resolve);
    return table.address();
}

const void* module_iterator_table() {
    static auto& table = (*new SlotTable<"MODULE_ITERATOR", 105>).set(7, for_each_function);
    return table.address();
}

}  // namespace gpuferry
