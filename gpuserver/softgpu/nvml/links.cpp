// How devices reach each other. Software devices share this machine's memory: peers without NVLink.
#include "nvml/session.h"

using namespace softgpu;

extern "C" nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device1, nvmlDevice_t device2,
                                               nvmlGpuP2PCapsIndex_t p2pIndex, nvmlGpuP2PStatus_t* p2pStatus) {
    return with_device(device1, [&](auto&) {
        return with_device(device2, [&](auto&) {
            // A GPU with itself too: NCCL asks for every pair.
            if (p2pIndex < NVML_P2P_CAPS_INDEX_READ || p2pIndex >= NVML_P2P_CAPS_INDEX_UNKNOWN) {
                return NVML_ERROR_INVALID_ARGUMENT;
            }
            return give(p2pStatus,
                        p2pIndex == NVML_P2P_CAPS_INDEX_NVLINK ? NVML_P2P_STATUS_NOT_SUPPORTED : NVML_P2P_STATUS_OK);
        });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device1, nvmlDevice_t device2,
                                                            nvmlGpuTopologyLevel_t* pathInfo) {
    return with_device(device1, [&](auto& one) {
        return with_device(device2, [&](auto& other) {
            return give(pathInfo, &one == &other ? NVML_TOPOLOGY_INTERNAL : NVML_TOPOLOGY_SYSTEM);
        });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
                                                         unsigned int* count, nvmlDevice_t* deviceArray) {
    return with_device(device, [&](auto& found) {
        if (!count) return NVML_ERROR_INVALID_ARGUMENT;
        unsigned others = level == NVML_TOPOLOGY_SYSTEM ? device_count() - 1 : 0;
        unsigned room = *count;
        *count = others;
        if (!deviceArray) return NVML_SUCCESS;  // only the number was asked for
        if (room < others) return NVML_ERROR_INSUFFICIENT_SIZE;
        for (unsigned i = 0, next = 0; next < others; ++i) {
            if (&device_at(i) != &found) deviceArray[next++] = handle_of_index(i);
        }
        return NVML_SUCCESS;
    });
}

// NVIDIA's library says the same of a device that has no NVLink at all.
extern "C" nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t*) {
    return with_device(device, [&](auto&) {
        return link < NVML_NVLINK_MAX_LINKS ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t* gpuFabricInfo) {
    return with_device(device, [&](auto&) {
        nvmlGpuFabricInfo_t info{};
        info.state = NVML_GPU_FABRIC_STATE_NOT_SUPPORTED;
        return give(gpuFabricInfo, info);
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t* gpuFabricInfo) {
    return with_device(device, [&](auto&) {
        if (!gpuFabricInfo) return NVML_ERROR_INVALID_ARGUMENT;
        unsigned version = gpuFabricInfo->version;
        if (version == nvmlGpuFabricInfo_v2) {
            nvmlGpuFabricInfo_v2_t info{};
            info.version = version;
            info.state = NVML_GPU_FABRIC_STATE_NOT_SUPPORTED;
            std::memcpy(static_cast<void*>(gpuFabricInfo), &info, sizeof info);
            return NVML_SUCCESS;
        }
        if (version == nvmlGpuFabricInfo_v3) {
            nvmlGpuFabricInfo_v3_t info{};
            info.version = version;
            info.state = NVML_GPU_FABRIC_STATE_NOT_SUPPORTED;
            std::memcpy(static_cast<void*>(gpuFabricInfo), &info, sizeof info);
            return NVML_SUCCESS;
        }
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    });
}
