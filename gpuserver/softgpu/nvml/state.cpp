// Modes and clocks. A software device has no sensors: temperature, power and fans stay NVML_ERROR_NOT_SUPPORTED.
#include <sched.h>

#include <algorithm>
#include <climits>

#include "nvml/session.h"

using namespace softgpu;

namespace {

nvmlReturn_t give_clock(nvmlDevice_t device, nvmlClockType_t type, unsigned* megahertz) {
    return with_device(device, [&](auto& found) {
        if (type < NVML_CLOCK_GRAPHICS || type >= NVML_CLOCK_COUNT) return NVML_ERROR_INVALID_ARGUMENT;
        if (type == NVML_CLOCK_VIDEO) return NVML_ERROR_NOT_SUPPORTED;
        int khz = type == NVML_CLOCK_MEM ? found.config.memory_clock_khz : found.config.clock_khz;
        return give(megahertz, khz / 1000);
    });
}

// The one clock that there is.
nvmlReturn_t give_clock_list(unsigned* count, unsigned* clocks, int khz) {
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned room = *count;
    *count = 1;
    if (room < 1 || !clocks) return NVML_ERROR_INSUFFICIENT_SIZE;
    clocks[0] = static_cast<unsigned>(khz / 1000);
    return NVML_SUCCESS;
}

}  // namespace

extern "C" nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int* clock) {
    return give_clock(device, type, clock);
}
extern "C" nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int* clock) {
    return give_clock(device, type, clock);
}
extern "C" nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t clockType, nvmlClockId_t clockId,
                                           unsigned int* clockMHz) {
    if (clockId < NVML_CLOCK_ID_CURRENT || clockId >= NVML_CLOCK_ID_COUNT) return NVML_ERROR_INVALID_ARGUMENT;
    return give_clock(device, clockType, clockMHz);
}
extern "C" nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t clockType,
                                                       unsigned int* clockMHz) {
    return give_clock(device, clockType, clockMHz);
}
extern "C" nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t clockType,
                                                              unsigned int* clockMHz) {
    return give_clock(device, clockType, clockMHz);
}
extern "C" nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int* count,
                                                           unsigned int* clocksMHz) {
    return with_device(device,
                       [&](auto& found) { return give_clock_list(count, clocksMHz, found.config.memory_clock_khz); });
}
extern "C" nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memoryClockMHz,
                                                             unsigned int* count, unsigned int* clocksMHz) {
    return with_device(device, [&](auto& found) {
        if (static_cast<int>(memoryClockMHz) != found.config.memory_clock_khz / 1000) return NVML_ERROR_NOT_FOUND;
        return give_clock_list(count, clocksMHz, found.config.clock_khz);
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long* reasons) {
    return with_device(device, [&](auto&) { return give(reasons, nvmlClocksEventReasonNone); });
}
extern "C" nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long* reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}
extern "C" nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long* reasons) {
    return with_device(device, [&](auto&) { return give(reasons, nvmlClocksEventReasonNone); });
}
extern "C" nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, unsigned long long* reasons) {
    return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}

extern "C" nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t* pState) {
    return with_device(device, [&](auto&) { return give(pState, NVML_PSTATE_0); });
}
extern "C" nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t* mode) {
    return with_device(device, [&](auto&) { return give(mode, NVML_COMPUTEMODE_DEFAULT); });
}
// There is no driver to unload between programs.
extern "C" nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
    return with_device(device, [&](auto&) { return give(mode, NVML_FEATURE_ENABLED); });
}
extern "C" nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t* display) {
    return with_device(device, [&](auto&) { return give(display, NVML_FEATURE_DISABLED); });
}
extern "C" nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t* isActive) {
    return with_device(device, [&](auto&) { return give(isActive, NVML_FEATURE_DISABLED); });
}
extern "C" nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, nvmlGpuVirtualizationMode_t* mode) {
    return with_device(device, [&](auto&) { return give(mode, NVML_GPU_VIRTUALIZATION_MODE_NONE); });
}
extern "C" nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, nvmlBusType_t* type) {
    return with_device(device, [&](auto&) { return give(type, NVML_BUS_TYPE_UNKNOWN); });
}

extern "C" nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int* currentMode,
                                             unsigned int* pendingMode) {
    return with_device(device, [&](auto&) {
        if (!currentMode || !pendingMode) return NVML_ERROR_INVALID_ARGUMENT;
        *currentMode = *pendingMode = NVML_DEVICE_MIG_DISABLE;
        return NVML_SUCCESS;
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int* count) {
    return with_device(device, [&](auto&) { return give(count, 0); });
}
extern "C" nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* isMigDevice) {
    return with_device(device, [&](auto&) { return give(isMigDevice, 0); });
}

// The processors that this process may use are those that execute its kernels.
extern "C" nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int cpuSetSize, unsigned long* cpuSet) {
    return with_device(device, [&](auto&) {
        if (!cpuSet || cpuSetSize == 0) return NVML_ERROR_INVALID_ARGUMENT;
        cpu_set_t allowed;
        CPU_ZERO(&allowed);
        if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return NVML_ERROR_OPERATING_SYSTEM;
        std::fill_n(cpuSet, cpuSetSize, 0ul);
        constexpr unsigned bits = CHAR_BIT * sizeof(unsigned long);
        for (unsigned cpu = 0; cpu < std::min<unsigned>(CPU_SETSIZE, cpuSetSize * bits); ++cpu) {
            if (CPU_ISSET(cpu, &allowed)) cpuSet[cpu / bits] |= 1ul << cpu % bits;
        }
        return NVML_SUCCESS;
    });
}
extern "C" nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int cpuSetSize,
                                                            unsigned long* cpuSet, nvmlAffinityScope_t scope) {
    if (scope != NVML_AFFINITY_SCOPE_NODE && scope != NVML_AFFINITY_SCOPE_SOCKET) return NVML_ERROR_INVALID_ARGUMENT;
    return nvmlDeviceGetCpuAffinity(device, cpuSetSize, cpuSet);
}
