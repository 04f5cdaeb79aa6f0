// What NVML says of the system: versions, names of processes, texts of errors, units.
#include <fstream>
#include <string>

#include "nvml/session.h"

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
    switch (result) {
        case NVML_SUCCESS:
            return "Success";
        case NVML_ERROR_UNINITIALIZED:
            return "Uninitialized";
        case NVML_ERROR_INVALID_ARGUMENT:
            return "Invalid Argument";
        case NVML_ERROR_NOT_SUPPORTED:
            return "Not Supported";
        case NVML_ERROR_NO_PERMISSION:
            return "Insufficient Permissions";
        case NVML_ERROR_ALREADY_INITIALIZED:
            return "Already Initialized";
        case NVML_ERROR_NOT_FOUND:
            return "Not Found";
        case NVML_ERROR_INSUFFICIENT_SIZE:
            return "Insufficient Size";
        case NVML_ERROR_INSUFFICIENT_POWER:
            return "Insufficient External Power";
        case NVML_ERROR_DRIVER_NOT_LOADED:
            return "Driver Not Loaded";
        case NVML_ERROR_TIMEOUT:
            return "Timeout";
        case NVML_ERROR_IRQ_ISSUE:
            return "Interrupt Request Issue";
        case NVML_ERROR_LIBRARY_NOT_FOUND:
            return "NVML Shared Library Not Found";
        case NVML_ERROR_FUNCTION_NOT_FOUND:
            return "Function Not Found";
        case NVML_ERROR_CORRUPTED_INFOROM:
            return "Corrupted infoROM";
        case NVML_ERROR_GPU_IS_LOST:
            return "GPU is lost";
        case NVML_ERROR_RESET_REQUIRED:
            return "GPU requires restart";
        case NVML_ERROR_OPERATING_SYSTEM:
            return "The operating system has blocked the request.";
        case NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return "RM has detected an NVML/RM version mismatch.";
        case NVML_ERROR_IN_USE:
            return "GPU is currently in use";
        case NVML_ERROR_MEMORY:
            return "Insufficient Memory";
        case NVML_ERROR_NO_DATA:
            return "No data";
        case NVML_ERROR_VGPU_ECC_NOT_SUPPORTED:
            return "vGPU operation not supported with ECC enabled";
        case NVML_ERROR_INSUFFICIENT_RESOURCES:
            return "Ran out of critical resources, other than memory";
        case NVML_ERROR_FREQ_NOT_SUPPORTED:
            return "Requested frequency is not supported";
        case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
            return "Argument version mismatch";
        case NVML_ERROR_DEPRECATED:
            return "The requested functionality has been deprecated";
        case NVML_ERROR_NOT_READY:
            return "The system is not ready for the request";
        case NVML_ERROR_GPU_NOT_FOUND:
            return "No GPUs were found";
        case NVML_ERROR_INVALID_STATE:
            return "Resource not in correct state to perform requested operation";
        case NVML_ERROR_RESET_TYPE_NOT_SUPPORTED:
            return "Reset type not supported for given device";
        default:
            return "Unknown Error";
    }
}
