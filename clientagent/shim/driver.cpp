// cuInit, versions and error texts.
#include <cstdlib>
#include <cstring>

#include "entry.h"
#include "error_names.h"
#include "shim_calls.h"

namespace gpuferry::shim {

CUresult cuInit(unsigned Flags) {
    if (Flags) return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = client().initialise();
    if (!result) update_entry_mode();
    return result;
}

// A program may ask before cuInit; with no server the header's version lets it get as far as cuInit, which says why.
CUresult cuDriverGetVersion(int* driverVersion) {
    if (!driverVersion) return CUDA_ERROR_INVALID_VALUE;
    const bool connected = client().state() == ClientState::ready ||
                           (client().state() == ClientState::not_initialised && client().connect() == CUDA_SUCCESS);
    *driverVersion = connected ? client().snapshot().driver_version : header_version;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** pStr) {
    if (!pStr) return CUDA_ERROR_INVALID_VALUE;
    const auto& errors = client().snapshot().errors;
    const auto found = errors.find(error);
    *pStr = found == errors.end() ? known_error_name(error) : found->second.name.c_str();
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** pStr) {
    if (!pStr) return CUDA_ERROR_INVALID_VALUE;
    const auto& errors = client().snapshot().errors;
    const auto found = errors.find(error);
    *pStr = found == errors.end() ? known_error_name(error) : found->second.text.c_str();
    return *pStr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
    if (!mode) return CUDA_ERROR_INVALID_VALUE;
    const char* wanted = std::getenv("CUDA_MODULE_LOADING");
    *mode = wanted && std::strcmp(wanted, "EAGER") == 0 ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
    return CUDA_SUCCESS;
}

}  // namespace gpuferry::shim
