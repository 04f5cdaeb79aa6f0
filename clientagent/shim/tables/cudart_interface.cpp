// What the CUDA runtime uses of the driver beyond its public functions.
#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

CUresult load_module_from_wrapper(CUmodule* module, const void* wrapper) {
    return shim::cuModuleLoadData(module, wrapper);
}

// The primary context's handle, without retaining it: it stays inactive.
CUresult get_primary_context(CUcontext* context, CUdevice ordinal) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    const Device* device = client().device(ordinal);
    if (!device) return CUDA_ERROR_INVALID_DEVICE;
    *context = from_handle<CUcontext>(device->primary);
    return CUDA_SUCCESS;
}

CUresult load_module_of_runtime_11(CUmodule* module, const void* wrapper, void*, void*, uint32_t) {
    return shim::cuModuleLoadData(module, wrapper);
}

// Runtime 11 says at exit that a fatbin's static storage goes away; its module was unloaded before.
void forget_wrapper(const void*) {}

CUresult load_module_from_fatbin(const void* fatbin, CUmodule* module, void*, void*, uint32_t) {
    return shim::cuModuleLoadData(module, fatbin);
}

// Compiling happens on the server.
CUresult load_compilers() {
    return CUDA_SUCCESS;
}

}  // namespace

const void* cudart_interface_table() {
    static auto& table = (*new SlotTable<"CUDART_INTERFACE", 13>)
                             .set(1, load_module_from_wrapper)
                             .set(2, get_primary_context)
                             .set(6, load_module_of_runtime_11)
                             .set(7, forget_wrapper)
                             .set(8, load_module_from_fatbin)
                             .set(12, load_compilers);
    return table.address();
}

}  // namespace gpuferry
