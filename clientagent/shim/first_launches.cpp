// The way of launching that came before cuLaunchKernel: a function collects its block shape and parameters, call by
// call.
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "functions.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct Gathered {
    unsigned block[3] = {1, 1, 1};
    unsigned shared_bytes = 0;
    std::vector<char> parameters;
};

std::mutex lock;
std::map<const Function*, Gathered>& gathered() {
    static auto* all = new std::map<const Function*, Gathered>;
    return *all;
}

template <class Change>
CUresult change(CUfunction handle, Change change) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    const std::lock_guard held(lock);
    return change(*function, gathered()[function]);
}

CUresult launch(CUfunction handle, int width, int height, CUstream stream) {
    Gathered now;
    if (width <= 0 || height <= 0) {
        const CUresult failure = change(handle, [](const Function&, Gathered&) { return CUDA_SUCCESS; });
        return failure ? failure : CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult failure = change(handle, [&now](const Function& function, Gathered& known) {
        known.parameters.resize(function.parameter_bytes);
        now = known;
        return CUDA_SUCCESS;
    });
    if (failure) return failure;
    size_t size = now.parameters.size();
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, now.parameters.data(), CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    return shim::cuLaunchKernel(handle, static_cast<unsigned>(width), static_cast<unsigned>(height), 1, now.block[0],
                                now.block[1], now.block[2], now.shared_bytes, stream, nullptr, size ? extra : nullptr);
}

}  // namespace

namespace shim {

CUresult cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z) {
    return change(hfunc, [=](const Function&, Gathered& known) {
        if (x <= 0 || y <= 0 || z <= 0) return CUDA_ERROR_INVALID_VALUE;
        known.block[0] = static_cast<unsigned>(x);
        known.block[1] = static_cast<unsigned>(y);
        known.block[2] = static_cast<unsigned>(z);
        return CUDA_SUCCESS;
    });
}

CUresult cuFuncSetSharedSize(CUfunction hfunc, unsigned bytes) {
    return change(hfunc, [=](const Function&, Gathered& known) {
        known.shared_bytes = bytes;
        return CUDA_SUCCESS;
    });
}

CUresult cuParamSetSize(CUfunction hfunc, unsigned numbytes) {
    return change(hfunc, [=](const Function& function, Gathered& known) {
        if (numbytes > function.parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
        known.parameters.resize(function.parameter_bytes);
        return CUDA_SUCCESS;
    });
}

CUresult cuParamSetv(CUfunction hfunc, int offset, void* ptr, unsigned numbytes) {
    return change(hfunc, [=](const Function& function, Gathered& known) {
        if (!ptr || offset < 0 || uint64_t{numbytes} + static_cast<unsigned>(offset) > function.parameter_bytes) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        known.parameters.resize(function.parameter_bytes);
        std::memcpy(known.parameters.data() + offset, ptr, numbytes);
        return CUDA_SUCCESS;
    });
}

CUresult cuParamSeti(CUfunction hfunc, int offset, unsigned value) {
    return shim::cuParamSetv(hfunc, offset, &value, sizeof value);
}
CUresult cuParamSetf(CUfunction hfunc, int offset, float value) {
    return shim::cuParamSetv(hfunc, offset, &value, sizeof value);
}
CUresult cuLaunch(CUfunction f) {
    return launch(f, 1, 1, nullptr);
}
CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
    return launch(f, grid_width, grid_height, nullptr);
}
CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
    return launch(f, grid_width, grid_height, hStream);
}

}  // namespace shim
}  // namespace gpuferry
