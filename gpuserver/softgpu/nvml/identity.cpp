// Which devices there are: counts, handles, names, numbers, PCI.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string>

#include "nvml/session.h"

using namespace softgpu;

namespace {

constexpr unsigned pci_class_display = 0x03, pci_subclass_3d = 0x02;

nvmlPciInfo_t pci_info(const DeviceConfig& device) {
    nvmlPciInfo_t info{};
    info.domain = static_cast<unsigned>(device.pci_domain);
    info.bus = static_cast<unsigned>(device.pci_bus);
    info.device = static_cast<unsigned>(device.pci_device);
    std::snprintf(info.busIdLegacy, sizeof info.busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT, info.domain & 0xffff,
                  info.bus & 0xff, info.device & 0xff);
    std::snprintf(info.busId, sizeof info.busId, NVML_DEVICE_PCI_BUS_ID_FMT, info.domain, info.bus & 0xff,
                  info.device & 0xff);
    return info;
}

// The first device for which `wanted` says yes.
template <class Predicate>
nvmlReturn_t find_handle(nvmlDevice_t* device, Predicate wanted) {
    if (!device) return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned i = 0; i < device_count(); ++i) {
        if (!wanted(device_at(i).config)) continue;
        *device = handle_of_index(i);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

bool same_text(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b,
                              [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

extern "C" nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* deviceCount) {
    return in_session([&] { return give(deviceCount, device_count()); });
}
extern "C" nvmlReturn_t nvmlDeviceGetCount(unsigned int* deviceCount) {
    return nvmlDeviceGetCount_v2(deviceCount);
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
    return in_session([&] {
        if (!device || index >= device_count()) return NVML_ERROR_INVALID_ARGUMENT;
        return give(device, handle_of_index(index));
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
    return in_session([&] {
        if (!uuid) return NVML_ERROR_INVALID_ARGUMENT;
        return find_handle(device, [&](const auto& config) { return same_text(format_uuid(config.uuid), uuid); });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* device) {
    return in_session([&] {
        if (!uuid) return NVML_ERROR_INVALID_ARGUMENT;
        if (uuid->type == NVML_UUID_TYPE_BINARY) {
            return find_handle(device, [&](const auto& config) {
                return !std::memcmp(config.uuid.data(), uuid->value.bytes, config.uuid.size());
            });
        }
        if (uuid->type != NVML_UUID_TYPE_ASCII) return NVML_ERROR_INVALID_ARGUMENT;
        std::string text(uuid->value.str, strnlen(uuid->value.str, sizeof uuid->value.str));
        return find_handle(device, [&](const auto& config) { return same_text(format_uuid(config.uuid), text); });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* pciBusId, nvmlDevice_t* device) {
    return in_session([&] {
        // domain:bus:device.function, bus:device.function, with hexadecimal numbers of any length.
        unsigned domain = 0, bus = 0, slot = 0;
        if (!pciBusId || (std::sscanf(pciBusId, "%x:%x:%x", &domain, &bus, &slot) != 3 &&
                          (domain = 0, std::sscanf(pciBusId, "%x:%x", &bus, &slot) != 2))) {
            return NVML_ERROR_INVALID_ARGUMENT;
        }
        return find_handle(device, [&](const DeviceConfig& config) {
            auto info = pci_info(config);
            return info.domain == domain && info.bus == bus && info.device == slot;
        });
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* pciBusId, nvmlDevice_t* device) {
    return nvmlDeviceGetHandleByPciBusId_v2(pciBusId, device);
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
    return in_session([&] {
        if (!serial) return NVML_ERROR_INVALID_ARGUMENT;
        return find_handle(device, [&](const auto& config) { return config.serial == serial; });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned int length) {
    return with_device(device, [&](auto& found) { return give_text(name, length, found.config.name); });
}
extern "C" nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned int length) {
    return with_device(device, [&](auto& found) { return give_text(uuid, length, format_uuid(found.config.uuid)); });
}
extern "C" nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char* serial, unsigned int length) {
    return with_device(device, [&](auto& found) { return give_text(serial, length, found.config.serial); });
}
extern "C" nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
    return with_device(device, [&](auto& found) { return give(index, found.config.index); });
}
extern "C" nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minorNumber) {
    return with_device(device, [&](auto& found) { return give(minorNumber, found.config.index); });
}
extern "C" nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t* type) {
    return with_device(device, [&](auto&) { return give(type, NVML_BRAND_UNKNOWN); });
}
extern "C" nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int* boardId) {
    return with_device(device, [&](auto& found) {
        return give(boardId, found.config.pci_domain << 16 | found.config.pci_bus << 8 | found.config.pci_device);
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int* multiGpuBool) {
    return with_device(device, [&](auto&) { return give(multiGpuBool, 0); });
}
extern "C" nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device1, nvmlDevice_t device2, int* onSameBoard) {
    return with_device(device1, [&](auto& one) {
        return with_device(device2, [&](auto& other) { return give(onSameBoard, &one == &other); });
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return with_device(device, [&](auto& found) { return give(pci, pci_info(found.config)); });
}
extern "C" nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return with_device(device, [&](auto& found) {
        if (!pci) return NVML_ERROR_INVALID_ARGUMENT;
        // The structure of before version 3 ends before `busId`.
        nvmlPciInfo_t info = pci_info(found.config);
        std::memcpy(static_cast<void*>(pci), &info, offsetof(nvmlPciInfo_t, busId));
        return NVML_SUCCESS;
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    return nvmlDeviceGetPciInfo_v2(device, pci);
}

extern "C" nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t* pci) {
    return with_device(device, [&](auto& found) {
        if (!pci) return NVML_ERROR_INVALID_ARGUMENT;
        if (pci->version != nvmlPciInfoExt_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
        nvmlPciInfo_t info = pci_info(found.config);
        nvmlPciInfoExt_t answer{};
        answer.version = pci->version;
        answer.domain = info.domain;
        answer.bus = info.bus;
        answer.device = info.device;
        answer.baseClass = pci_class_display;
        answer.subClass = pci_subclass_3d;
        std::memcpy(answer.busId, info.busId, sizeof answer.busId);
        *pci = answer;
        return NVML_SUCCESS;
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major, int* minor) {
    return with_device(device, [&](auto& found) {
        if (!major || !minor) return NVML_ERROR_INVALID_ARGUMENT;
        *major = found.config.capability_major;
        *minor = found.config.capability_minor;
        return NVML_SUCCESS;
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t* arch) {
    return with_device(device, [&](auto& found) {
        int capability = found.config.capability_major * 10 + found.config.capability_minor;
        struct Row {
            int below;
            unsigned architecture;
        };
        constexpr Row rows[] = {
            {50, NVML_DEVICE_ARCH_KEPLER}, {60, NVML_DEVICE_ARCH_MAXWELL}, {70, NVML_DEVICE_ARCH_PASCAL},
            {75, NVML_DEVICE_ARCH_VOLTA},  {80, NVML_DEVICE_ARCH_TURING},  {89, NVML_DEVICE_ARCH_AMPERE},
            {90, NVML_DEVICE_ARCH_ADA},    {100, NVML_DEVICE_ARCH_HOPPER}, {130, NVML_DEVICE_ARCH_BLACKWELL}};
        for (const auto& row : rows) {
            if (capability < row.below) return give(arch, row.architecture);
        }
        return give(arch, NVML_DEVICE_ARCH_UNKNOWN);
    });
}
