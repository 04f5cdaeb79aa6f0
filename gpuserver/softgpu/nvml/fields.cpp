// Field values, events, and the private table.
#include <array>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "log.h"
#include "nvml/session.h"

using namespace softgpu;

namespace {

nvmlReturn_t read_field(unsigned id, nvmlFieldValue_t& field) {
    switch (id) {
        case NVML_FI_DEV_NVLINK_LINK_COUNT:
            field.valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            field.value.uiVal = 0;
            return NVML_SUCCESS;
        case NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE:
            field.valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            field.value.uiVal = 0;
            return NVML_SUCCESS;
        default:
            return id > 0 && id < NVML_FI_MAX ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    }
}

// Event sets are numbers; software devices have no events to put into them.
std::mutex event_mutex;
std::set<uintptr_t> event_sets;
uintptr_t next_event_set = 0x65766500;

bool is_event_set(nvmlEventSet_t set) {
    std::lock_guard lock(event_mutex);
    return event_sets.contains(reinterpret_cast<uintptr_t>(set));
}

// nvidia-smi wants a table; which functions it calls is not known.
template <size_t Slot>
nvmlReturn_t unknown_slot() {
    log_line(LogLevel::warning, "private NVML function [" + std::to_string(Slot) + "] is not known");
    return NVML_ERROR_NOT_SUPPORTED;
}

template <size_t... Slots>
std::array<const void*, sizeof...(Slots)> unknown_slots(std::index_sequence<Slots...>) {
    return {reinterpret_cast<const void*>(&unknown_slot<Slots>)...};
}

}  // namespace

extern "C" nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int valuesCount, nvmlFieldValue_t* values) {
    return with_device(device, [&](auto&) {
        if (valuesCount < 0 || (valuesCount > 0 && !values)) return NVML_ERROR_INVALID_ARGUMENT;
        auto now = std::chrono::system_clock::now().time_since_epoch();
        for (int i = 0; i < valuesCount; ++i) {
            values[i].timestamp = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
            values[i].latencyUsec = 0;
            values[i].nvmlReturn = read_field(values[i].fieldId, values[i]);
        }
        return NVML_SUCCESS;
    });
}

extern "C" nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t* set) {
    return in_session([&] {
        if (!set) return NVML_ERROR_INVALID_ARGUMENT;
        std::lock_guard lock(event_mutex);
        event_sets.insert(++next_event_set);
        *set = reinterpret_cast<nvmlEventSet_t>(next_event_set);
        return NVML_SUCCESS;
    });
}

extern "C" nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    return in_session([&] {
        std::lock_guard lock(event_mutex);
        return event_sets.erase(reinterpret_cast<uintptr_t>(set)) ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long* eventTypes) {
    return with_device(device, [&](auto&) { return give(eventTypes, nvmlEventTypeNone); });
}

extern "C" nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes,
                                                 nvmlEventSet_t set) {
    return with_device(device, [&](auto&) {
        if (!is_event_set(set)) return NVML_ERROR_INVALID_ARGUMENT;
        return eventTypes == nvmlEventTypeNone ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    });
}

extern "C" nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t* data, unsigned int timeoutms) {
    return in_session([&] {
        if (!data || !is_event_set(set)) return NVML_ERROR_INVALID_ARGUMENT;
        std::this_thread::sleep_for(std::chrono::milliseconds(timeoutms));
        return NVML_ERROR_TIMEOUT;
    });
}
extern "C" nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t* data, unsigned int timeoutms) {
    return nvmlEventSetWait_v2(set, data, timeoutms);
}

extern "C" nvmlReturn_t nvmlInternalGetExportTable(const void** table, const void* id) {
    constexpr size_t slots = 256;
    static auto& words = *new std::array<const void*, slots>(unknown_slots(std::make_index_sequence<slots>()));
    if (!table || !id) return NVML_ERROR_INVALID_ARGUMENT;
    words[0] = reinterpret_cast<const void*>(sizeof words);
    *table = words.data();
    return NVML_SUCCESS;
}
