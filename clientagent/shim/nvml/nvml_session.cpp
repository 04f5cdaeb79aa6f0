// nvmlInit, nvmlShutdown, and the devices: those of the lease, numbered from 0.
#include <strings.h>

#include <cstdio>

#include "nvml_error_text.h"
#include "nvml_local.h"

namespace {

using gpuferry::nvml::Device;
using gpuferry::nvml::give;
using gpuferry::nvml::handle_of_index;
using gpuferry::nvml::in_session;
using gpuferry::nvml::session;
using gpuferry::nvml::with_device;

template <class Which>
nvmlReturn_t find_handle(nvmlDevice_t* device, Which which) {
    return in_session([&] {
        if (!device) return NVML_ERROR_INVALID_ARGUMENT;
        const auto& devices = session().devices();
        for (unsigned i = 0; i < devices.size(); ++i) {
            if (which(devices[i])) return give(device, handle_of_index(i));
        }
        return NVML_ERROR_NOT_FOUND;
    });
}

struct Place {
    unsigned domain = 0, bus = 0, slot = 0;
    bool operator==(const Place&) const = default;
};

// domain:bus:device.function or bus:device.function, in hexadecimal digits.
bool read_place(const char* text, Place& place) {
    if (std::sscanf(text, "%x:%x:%x", &place.domain, &place.bus, &place.slot) == 3) return true;
    place.domain = 0;
    return std::sscanf(text, "%x:%x", &place.bus, &place.slot) == 2;
}

}  // namespace

extern "C" nvmlReturn_t nvmlInitWithFlags(unsigned int) {
    return session().open();
}
extern "C" nvmlReturn_t nvmlInit_v2() {
    return session().open();
}
extern "C" nvmlReturn_t nvmlInit() {
    return session().open();
}
extern "C" nvmlReturn_t nvmlShutdown() {
    return session().close();
}

extern "C" const char* nvmlErrorString(nvmlReturn_t result) {
    return gpuferry::nvml_error_text(result);
}

extern "C" nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* deviceCount) {
    return in_session([&] { return give(deviceCount, session().devices().size()); });
}
extern "C" nvmlReturn_t nvmlDeviceGetCount(unsigned int* deviceCount) {
    return nvmlDeviceGetCount_v2(deviceCount);
}
extern "C" nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int* deviceCount) {
    return in_session([&] { return give(deviceCount, 0); });
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
    return in_session([&] {
        return index < session().devices().size() ? give(device, handle_of_index(index)) : NVML_ERROR_INVALID_ARGUMENT;
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
    if (!uuid) return NVML_ERROR_INVALID_ARGUMENT;
    return find_handle(device, [&](const Device& each) { return strcasecmp(each.uuid.c_str(), uuid) == 0; });
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
    if (!serial) return NVML_ERROR_INVALID_ARGUMENT;
    return find_handle(device, [&](const Device& each) { return !each.serial.empty() && each.serial == serial; });
}

extern "C" nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* pciBusId, nvmlDevice_t* device) {
    Place wanted;
    if (!pciBusId || !read_place(pciBusId, wanted)) return NVML_ERROR_INVALID_ARGUMENT;
    return find_handle(device, [&](const Device& each) {
        Place place;
        return read_place(each.bus_id.c_str(), place) && place == wanted;
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* pciBusId, nvmlDevice_t* device) {
    return nvmlDeviceGetHandleByPciBusId_v2(pciBusId, device);
}

extern "C" nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
    return with_device(device, [&](const Device&, unsigned number) { return give(index, number); });
}
extern "C" nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minorNumber) {
    return with_device(device, [&](const Device&, unsigned number) { return give(minorNumber, number); });
}
extern "C" nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* isMigDevice) {
    return with_device(device, [&](const Device&, unsigned) { return give(isMigDevice, 0); });
}
