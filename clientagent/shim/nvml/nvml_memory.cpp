// Memory as cuMemGetInfo counts it: the slice, and what the lease's processes hold of it. And those processes.
#include <algorithm>
#include <fstream>
#include <string>

#include "nvml_local.h"
#include "nvml_stubs.h"

namespace {

using gpuferry::SliceAccount;
using gpuferry::nvml::Device;
using gpuferry::nvml::session;
using gpuferry::nvml::with_device;

// Before the first process of the lease uses CUDA: nothing of a slice is in use, and of a whole GPU what its own
// library says.
nvmlReturn_t read_memory(nvmlDevice_t handle, nvmlMemory_t& memory) {
    return with_device(handle, [&](const Device& device, unsigned index) {
        bool known = false;
        session().with_account([&](SliceAccount& account) {
            memory.total = account.total(index);
            memory.free = account.left(index);
            known = memory.total != 0;
        });
        if (!known && device.slice) {
            memory.total = memory.free = device.slice;
            known = true;
        }
        if (!known) return gpuferry::nvml::forward_nvmlDeviceGetMemoryInfo(handle, &memory);
        memory.used = memory.total - memory.free;
        return NVML_SUCCESS;
    });
}

// NVML's convention: with too little room only the number comes back.
template <class Info>
nvmlReturn_t list_processes(nvmlDevice_t handle, unsigned int* count, Info* infos) {
    return with_device(handle, [&](const Device&, unsigned index) {
        if (!count) return NVML_ERROR_INVALID_ARGUMENT;
        const unsigned room = infos ? *count : 0;
        unsigned found = 0;
        session().with_account([&](SliceAccount& account) {
            account.each_process(index, [&](uint64_t process, uint64_t bytes) {
                if (found < room) {
                    Info& info = infos[found];
                    info = {};
                    info.pid = static_cast<unsigned>(process);
                    info.usedGpuMemory = bytes;
                    if constexpr (requires { info.gpuInstanceId; }) info.gpuInstanceId = ~0u;
                    if constexpr (requires { info.computeInstanceId; }) info.computeInstanceId = ~0u;
                }
                ++found;
            });
        });
        *count = found;
        return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    });
}

nvmlReturn_t list_none(nvmlDevice_t handle, unsigned int* count) {
    return with_device(handle, [&](const Device&, unsigned) {
        if (!count) return NVML_ERROR_INVALID_ARGUMENT;
        *count = 0;
        return NVML_SUCCESS;
    });
}

}  // namespace

extern "C" nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
    nvmlMemory_t now{};
    const nvmlReturn_t result = read_memory(device, now);
    if (!result && !memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (!result) *memory = now;
    return result;
}

extern "C" nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
    nvmlMemory_t now{};
    if (const nvmlReturn_t failure = read_memory(device, now)) return failure;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    *memory = {memory->version, now.total, 0, now.free, now.used};
    return NVML_SUCCESS;
}

#include "nvml_process_lists.inc"

// The processes that NVML lists here are this machine's.
extern "C" nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int length) {
    return gpuferry::nvml::in_session([&] {
        if (!name || !length) return NVML_ERROR_INVALID_ARGUMENT;
        std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
        std::string first;
        if (!std::getline(file, first, '\0') || first.empty()) return NVML_ERROR_NOT_FOUND;
        const size_t size = std::min<size_t>(first.size(), length - 1);
        std::memcpy(name, first.data(), size);
        name[size] = '\0';
        return NVML_SUCCESS;
    });
}
