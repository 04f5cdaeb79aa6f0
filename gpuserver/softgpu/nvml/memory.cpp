// Memory and processes, from the file that every process using a device keeps up (usage.h).
#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "nvml/session.h"

using namespace softgpu;

namespace {

struct Memory {
    unsigned long long total, used;
};

Memory memory_of(const ManagedDevice& device) {
    unsigned long long total = device.config.memory_bytes;
    return {total, std::min<unsigned long long>(total, device.usage.used_bytes())};
}

constexpr unsigned not_available = 0xffffffff;

// Fills the caller's array of `Info`; says INSUFFICIENT_SIZE and how many there are when it is too short.
template <class Info>
nvmlReturn_t list_processes(nvmlDevice_t handle, unsigned* count, Info* infos) {
    return with_device(handle, [&](auto& device) {
        if (!count) return NVML_ERROR_INVALID_ARGUMENT;
        auto processes = device.usage.processes();
        unsigned room = *count;
        *count = static_cast<unsigned>(processes.size());
        if (room < processes.size()) return NVML_ERROR_INSUFFICIENT_SIZE;
        if (!infos && !processes.empty()) return NVML_ERROR_INVALID_ARGUMENT;
        for (size_t i = 0; i < processes.size(); ++i) {
            Info info{};
            info.pid = static_cast<unsigned>(processes[i].pid);
            info.usedGpuMemory = processes[i].bytes;
            if constexpr (requires { info.gpuInstanceId; }) {
                info.gpuInstanceId = not_available;
                info.computeInstanceId = not_available;
            }
            infos[i] = info;
        }
        return NVML_SUCCESS;
    });
}

nvmlReturn_t list_none(nvmlDevice_t handle, unsigned* count) {
    return with_device(handle, [&](auto&) { return give(count, 0); });
}

// How busy a device was between two looks at it.
struct Sample {
    uint64_t time_ns, busy_ns;
};

Sample sample(const ManagedDevice& device) {
    Sample now{monotonic_ns(), 0};
    for (const auto& process : device.usage.processes()) now.busy_ns += process.busy_ns;
    return now;
}

// Percent of the time since the last question, or of a moment now when none was asked before. A process that ended in
// between takes its share with it.
unsigned busy_percent(const ManagedDevice& device) {
    constexpr uint64_t shortest_ns = 20'000'000, longest_ns = 1'000'000'000;
    static std::mutex mutex;
    static auto& last = *new std::map<const ManagedDevice*, Sample>;
    std::lock_guard lock(mutex);
    Sample now = sample(device);
    auto before = last.find(&device);
    if (before == last.end() || now.time_ns - before->second.time_ns < shortest_ns ||
        now.time_ns - before->second.time_ns > longest_ns) {
        last[&device] = now;
        std::this_thread::sleep_for(std::chrono::nanoseconds(shortest_ns));
        before = last.find(&device);
        now = sample(device);
    }
    uint64_t elapsed = now.time_ns - before->second.time_ns;
    uint64_t busy = now.busy_ns > before->second.busy_ns ? now.busy_ns - before->second.busy_ns : 0;
    before->second = now;
    return static_cast<unsigned>(std::min<uint64_t>(100, busy * 100 / elapsed));
}

}  // namespace

extern "C" nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
    return with_device(device, [&](auto& found) {
        Memory now = memory_of(found);
        return give(memory, nvmlMemory_t{now.total, now.total - now.used, now.used});
    });
}

extern "C" nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
    return with_device(device, [&](auto& found) {
        if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
        if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
        Memory now = memory_of(found);
        *memory = {memory->version, now.total, 0, now.total - now.used, now.used};
        return NVML_SUCCESS;
    });
}

// All of a device's memory is mapped for the processor.
extern "C" nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* bar1Memory) {
    return with_device(device, [&](auto& found) {
        Memory now = memory_of(found);
        return give(bar1Memory, nvmlBAR1Memory_t{now.total, now.total - now.used, now.used});
    });
}

#include "nvml_process_lists.inc"

// Kernels and copies work on the device's memory all the time they run.
extern "C" nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* utilization) {
    return with_device(device, [&](auto& found) {
        if (!utilization) return NVML_ERROR_INVALID_ARGUMENT;
        unsigned percent = busy_percent(found);
        return give(utilization, nvmlUtilization_t{percent, percent});
    });
}
