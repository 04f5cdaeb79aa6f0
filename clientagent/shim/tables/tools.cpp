// Tables that profilers use, and that the runtime, cuBLAS and cuFFT ask a little of: flags that nobody has set, the
// current context, ids of contexts and streams, the functions of a module.
#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

CUresult get_current_context(CUcontext* context) {
    return shim::cuCtxGetCurrent(context);
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

}  // namespace

const void* callback_hooks_table() {
    return private_tables::callback_hooks<unknown_slot>();
}

const void* tools_tls_table() {
    static auto& table = (*new SlotTable<"TOOLS_TLS", 4>).set(2, get_current_context);
    return table.address();
}

const void* context_checks_table() {
    return private_tables::context_checks<unknown_slot>();
}

const void* object_ids_table() {
    static auto& table =
        (*new SlotTable<"OBJECT_IDS", 96>).set(4, get_context_id).set(39, get_stream_id).set(51, resolve);
    return table.address();
}

const void* module_iterator_table() {
    return private_tables::module_iterator<unknown_slot, shim::cuModuleGetFunctionCount,
                                           shim::cuModuleEnumerateFunctions>();
}

}  // namespace gpuferry
