// cuDevice*: answered from the snapshot of the session's start.
#include <strings.h>

#include <cstdio>
#include <cstring>

#include "client.h"
#include "peers.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

template <class Answer>
CUresult of_device(CUdevice ordinal, const void* place, Answer answer) {
    const Device* device = client().device(ordinal);
    if (!place) return CUDA_ERROR_INVALID_VALUE;
    if (!device) return CUDA_ERROR_INVALID_DEVICE;
    answer(*device);
    return CUDA_SUCCESS;
}

void copy_text(const std::string& text, char* place, int size) {
    if (size <= 0) return;
    std::strncpy(place, text.c_str(), static_cast<size_t>(size));
    place[size - 1] = 0;
}

}  // namespace

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    return of_device(ordinal, device, [&](const Device&) { *device = ordinal; });
}

CUresult cuDeviceGetCount(int* count) {
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<int>(client().snapshot().devices.size());
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int len, CUdevice dev) {
    if (!client().device(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (len <= 0) return CUDA_ERROR_INVALID_VALUE;
    return of_device(dev, name, [&](const Device& device) { copy_text(device.name, name, len); });
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
    return of_device(dev, uuid, [&](const Device& device) { *uuid = device.uuid; });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
    return of_device(dev, uuid, [&](const Device& device) { *uuid = device.uuid_v2; });
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
    return of_device(dev, bytes, [&](const Device& device) { *bytes = device.total; });
}

CUresult cuDeviceGetAttribute(int* pi, CUdevice_attribute attrib, CUdevice dev) {
    const Device* device = client().device(dev);
    if (!pi) return CUDA_ERROR_INVALID_VALUE;
    if (!device) return CUDA_ERROR_INVALID_DEVICE;
    const auto found = device->attributes.find(attrib);
    if (found == device->attributes.end()) return CUDA_ERROR_INVALID_VALUE;
    *pi = found->second;
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
    if (!minor) return CUDA_ERROR_INVALID_VALUE;
    return of_device(dev, major, [&](const Device& device) {
        *major = device.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        *minor = device.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    });
}

CUresult cuDeviceGetProperties(CUdevprop* prop, CUdevice dev) {
    return of_device(dev, prop, [&](const Device& device) { *prop = device.properties; });
}

CUresult cuDeviceGetPCIBusId(char* pciBusId, int len, CUdevice dev) {
    const Device* known = client().device(dev);
    if (!known) return CUDA_ERROR_INVALID_DEVICE;
    if (len <= 0 || static_cast<size_t>(len) <= known->bus_id.size()) return CUDA_ERROR_INVALID_VALUE;
    return of_device(dev, pciBusId, [&](const Device& device) { copy_text(device.bus_id, pciBusId, len); });
}

CUresult cuDeviceGetByPCIBusId(CUdevice* dev, const char* pciBusId) {
    if (!dev || !pciBusId) return CUDA_ERROR_INVALID_VALUE;
    const std::string asked = pciBusId;
    const auto& devices = client().snapshot().devices;
    for (size_t i = 0; i < devices.size(); ++i) {
        const std::string& id = devices[i].bus_id;
        // domain:bus:device.function, where the domain and the function may be left out
        std::string known = id;
        if (asked.size() < id.size() && asked.find(':') == asked.rfind(':')) known = id.substr(id.find(':') + 1);
        if (asked.find('.') == std::string::npos) known = known.substr(0, known.find('.'));
        if (strcasecmp(known.c_str(), asked.c_str()) == 0) {
            *dev = static_cast<CUdevice>(i);
            return CUDA_SUCCESS;
        }
    }
    unsigned number = 0;  // what is no bus id at all is another error
    const bool is_id = asked.find(':') != std::string::npos && std::sscanf(asked.c_str(), "%x", &number) == 1;
    return is_id ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceCanAccessPeer(int* canAccessPeer, CUdevice dev, CUdevice peerDev) {
    const Device* peer = client().device(peerDev);
    if (!peer) return CUDA_ERROR_INVALID_DEVICE;
    return of_device(dev, canAccessPeer, [&](const Device& device) { *canAccessPeer = can_access(device, *peer); });
}

}  // namespace gpuferry::shim
