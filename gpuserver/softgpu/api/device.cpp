// Devices: how many, which, and what they can do.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "api/entry.h"
#include "device/context.h"
#include "device/device.h"
#include "device/pool.h"
#include "exports/caller.h"

using namespace softgpu;

extern "C" CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
    return entry(__func__, [&] {
        check_value(device, "device is NULL");
        *device = require_device(ordinal).ordinal();
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetCount(int* count) {
    return entry(__func__, [&] {
        check_value(count, "count is NULL");
        *count = device_count();
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetName(char* name, int len, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(name && len > 0, "no room for the name");
        std::snprintf(name, static_cast<size_t>(len), "%s", device.config().name.c_str());
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(uuid, "uuid is NULL");
        std::memcpy(uuid->bytes, device.config().uuid.data(), sizeof uuid->bytes);
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
    return cuDeviceGetUuid(uuid, dev);
}

extern "C" CUresult CUDAAPI cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
    return entry(__func__, [&] {
        Device& device = require_device(dev);
        check_value(bytes, "bytes is NULL");
        *bytes = device.memory().capacity();
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetAttribute(int* pi, CUdevice_attribute attrib, CUdevice dev) {
    const void* caller = caller_of_entry_point(__builtin_return_address(0));
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(pi, "pi is NULL");
        *pi = device_attribute(device, attrib);
        // Libraries choose their code by what the runtime tells them of the device (config.h).
        const bool major = attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        const bool minor = attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
        if ((major || minor) && is_in_runtime(caller)) {
            *pi = major ? device.config().runtime_capability_major : device.config().runtime_capability_minor;
        }
    });
}

extern "C" CUresult CUDAAPI cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(major && minor, "major or minor is NULL");
        *major = device.config().capability_major;
        *minor = device.config().capability_minor;
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetProperties(CUdevprop* prop, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(prop, "prop is NULL");
        const auto attribute = [&](CUdevice_attribute which) { return device_attribute(device, which); };
        *prop = {};
        prop->maxThreadsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
        prop->maxThreadsDim[0] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X);
        prop->maxThreadsDim[1] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y);
        prop->maxThreadsDim[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z);
        prop->maxGridSize[0] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
        prop->maxGridSize[1] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y);
        prop->maxGridSize[2] = attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
        prop->sharedMemPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
        prop->totalConstantMemory = attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
        prop->SIMDWidth = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
        prop->memPitch = attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
        prop->regsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
        prop->clockRate = attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
        prop->textureAlign = attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetPCIBusId(char* pciBusId, int len, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        const std::string id = format_pci_bus_id(device.config());
        check_value(pciBusId && len > static_cast<int>(id.size()), "no room for the PCI bus id");
        std::memcpy(pciBusId, id.c_str(), id.size() + 1);
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetByPCIBusId(CUdevice* dev, const char* pciBusId) {
    return entry(__func__, [&] {
        check_value(dev && pciBusId, "dev or pciBusId is NULL");
        // domain:bus:device.function, domain:bus:device or bus:device.function
        int domain = 0, bus = 0, slot = 0, used = 0;
        if (std::sscanf(pciBusId, "%x:%x:%x%n", &domain, &bus, &slot, &used) != 3) {
            domain = 0;
            check_value(std::sscanf(pciBusId, "%x:%x%n", &bus, &slot, &used) == 2, "not a PCI bus id");
        }
        for (int i = 0; i < device_count(); ++i) {
            const DeviceConfig& config = require_device(i).config();
            if (config.pci_domain == domain && config.pci_bus == bus && config.pci_device == slot) {
                *dev = i;
                return CUDA_SUCCESS;
            }
        }
        return CUDA_ERROR_INVALID_DEVICE;
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetExecAffinitySupport(int* pi, CUexecAffinityType type, CUdevice dev) {
    return entry(__func__, [&] {
        require_device(dev);
        check_value(pi && type == CU_EXEC_AFFINITY_TYPE_SM_COUNT, "unknown affinity type");
        *pi = 0;
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetTexture1DLinearMaxWidth(size_t* maxWidthInElements, CUarray_format,
                                                               unsigned numChannels, CUdevice dev) {
    return entry(__func__, [&] {
        require_device(dev);
        check_value(maxWidthInElements && (numChannels == 1 || numChannels == 2 || numChannels == 4),
                    "NumChannels is not 1, 2 or 4");
        *maxWidthInElements = (size_t{1} << 27) / numChannels;
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(pool_out, "pool_out is NULL");
        *pool_out = handle_of(*device.default_pool());
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
    return entry(__func__, [&] {
        const Device& device = require_device(dev);
        check_value(pool, "pool is NULL");
        *pool = handle_of(*device.current_pool());
    });
}

extern "C" CUresult CUDAAPI cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
    return entry(__func__, [&] {
        Device& device = require_device(dev);
        auto wanted = require<MemoryPool>(pool);
        check_value(&wanted->device() == &device && !wanted->imported() && !wanted->on_host(),
                    "the pool is of another device, or the host's");
        device.set_current_pool(std::move(wanted));
    });
}
