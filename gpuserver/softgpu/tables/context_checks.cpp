// The runtime asks before it uses a context that it did not make.
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult check_context(CUcontext, uint32_t* result, const void**) {
    if (!result) return CUDA_ERROR_INVALID_VALUE;
    *result = 0;
    return CUDA_SUCCESS;
}

uint32_t check() {
    return 0;
}

}  // namespace

const void* context_checks_table() {
    static auto& table = (*new SlotTable<"CONTEXT_CHECKS", 17>).set(2, check_context).set(3, check);
    return table.address();
}

}  // namespace softgpu
