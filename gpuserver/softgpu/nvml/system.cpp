// What NVML says of the system: versions, names of processes, texts of errors, units.
#include <fstream>
#include <string>

#include "nvml/session.h"
#include "nvml_error_text.h"

using namespace softgpu;

extern "C" nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
    return in_session([&] { return give_text(version, length, config().driver_release); });
}

// The NVML of CUDA 13.5's driver would be 13.<driver release>.
extern "C" nvmlReturn_t nvmlSystemGetNVMLVersion(char* version, unsigned int length) {
    return in_session([&] {
        return give_text(version, length,
                         std::to_string(config().driver_version / 1000) + "." + config().driver_release);
    });
}

extern "C" nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t* branchInfo, unsigned int length) {
    return in_session([&] {
        if (!branchInfo) return NVML_ERROR_INVALID_ARGUMENT;
        const std::string& release = config().driver_release;
        std::string branch = release.substr(0, release.find('.'));
        branch.insert(branch.begin(), 'r');
        branch += "_00";
        return give_text(branchInfo->branch, std::min<unsigned>(length, sizeof branchInfo->branch), branch);
    });
}

// Works before nvmlInit too, as NVIDIA's does.
extern "C" nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int* cudaDriverVersion) {
    return give(cudaDriverVersion, config().driver_version);
}
extern "C" nvmlReturn_t nvmlSystemGetCudaDriverVersion(int* cudaDriverVersion) {
    return nvmlSystemGetCudaDriverVersion_v2(cudaDriverVersion);
}

extern "C" nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int length) {
    return in_session([&] {
        if (!name || length == 0) return NVML_ERROR_INVALID_ARGUMENT;
        std::ifstream stream("/proc/" + std::to_string(pid) + "/cmdline");
        std::string command;
        if (!std::getline(stream, command, '\0') || command.empty()) return NVML_ERROR_NOT_FOUND;
        // NVIDIA's cuts a name that does not fit.
        return give_text(name, length, std::string_view(command).substr(0, length - 1));
    });
}

extern "C" nvmlReturn_t nvmlUnitGetCount(unsigned int* unitCount) {
    return in_session([&] { return give(unitCount, 0); });
}

extern "C" nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int* deviceCount) {
    return in_session([&] { return give(deviceCount, 0); });
}

extern "C" nvmlReturn_t nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t* capabilities) {
    return in_session([&] {
        if (!capabilities) return NVML_ERROR_INVALID_ARGUMENT;
        *capabilities = {};
        return NVML_SUCCESS;
    });
}

extern "C" const char* nvmlErrorString(nvmlReturn_t result) {
    return gpuferry::nvml_error_text(result);
}
