// Creates a context without the driver's usual detours; some profilers ask for it.
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult create_context(CUcontext* context, unsigned flags, CUdevice device) {
    return cuCtxCreate_v2(context, flags, device);
}

}  // namespace

const void* context_create_bypass_table() {
    static auto& table = (*new SlotTable<"CTX_CREATE_BYPASS", 2>).set(1, create_context);
    return table.address();
}

}  // namespace softgpu
