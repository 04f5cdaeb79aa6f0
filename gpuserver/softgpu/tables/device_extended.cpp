// Device attributes beyond the public ones, as profilers ask for them.
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult get_extended_attribute(CUdevice device, uint32_t attribute, int, size_t result[2]) {
    if (!result) return CUDA_ERROR_INVALID_VALUE;
    int value = 0;
    CUresult status = cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(attribute), device);
    if (status != CUDA_SUCCESS) return status;
    result[0] = static_cast<size_t>(value);
    result[1] = 0;
    return CUDA_SUCCESS;
}

CUresult get_flag(uint8_t* flag, CUdevice) {
    if (!flag) return CUDA_ERROR_INVALID_VALUE;
    *flag = 0;
    return CUDA_SUCCESS;
}

}  // namespace

const void* device_extended_table() {
    static auto& table = (*new SlotTable<"DEVICE_EXTENDED_RT", 34>).set(5, get_extended_attribute).set(13, get_flag);
    return table.address();
}

}  // namespace softgpu
