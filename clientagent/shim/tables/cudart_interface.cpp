// What the CUDA runtime uses of the driver beyond its public functions. Compiling happens on the server.
#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

CUresult get_primary_context(CUcontext* context, CUdevice ordinal) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    const Device* device = client().device(ordinal);
    if (!device) return CUDA_ERROR_INVALID_DEVICE;
    *context = from_handle<CUcontext>(device->primary);
    return CUDA_SUCCESS;
}

}  // namespace

const void* cudart_interface_table() {
    return private_tables::cudart_interface<unknown_slot, shim::cuModuleLoadData, get_primary_context>();
}

}  // namespace gpuferry
