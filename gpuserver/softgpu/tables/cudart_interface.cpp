// What the CUDA runtime uses of the driver beyond its public functions. The PTX compiler is part of this library.
#include "api/entry.h"
#include "device/context.h"
#include "device/device.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult get_primary_context(CUcontext* context, CUdevice ordinal) {
    return entry("CUDART_INTERFACE.get_primary_context", [&] {
        check_value(context != nullptr, "no place for the context");
        *context = handle_of(*require_device(ordinal).primary());
    });
}

}  // namespace

const void* cudart_interface_table() {
    return gpuferry::private_tables::cudart_interface<unknown_slot, cuModuleLoadData, get_primary_context>();
}

}  // namespace softgpu
