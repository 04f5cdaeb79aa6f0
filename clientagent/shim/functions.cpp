// cuFunc*, cuKernel*: answered from what the load reply said.
#include "functions.h"

#include "call.h"
#include "launch_frame.h"
#include "shim_calls.h"

namespace gpuferry::shim {
namespace {

CUresult get_attribute(Server& server, int* value, int which, CUfunction handle) {
    CUresult failure = CUDA_SUCCESS;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    const Function* function = find_function_on(server, handle, failure);
    if (!function) return failure;
    if (which < 0 || static_cast<size_t>(which) >= function->attributes.size()) return CUDA_ERROR_INVALID_VALUE;
    if (function->attribute(which) == no_attribute) return CUDA_ERROR_INVALID_VALUE;
    *value = which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? function->dynamic_shared_limit.load()
                                                                      : function->attribute(which);
    return CUDA_SUCCESS;
}

// `device`: null for that of the current context.
CUresult set_attribute(CUfunction handle, CUfunction_attribute which, int value, const Device* device) {
    CUresult failure = CUDA_SUCCESS;
    Function* function = find_function_on(device ? *device->server : current_server(), handle, failure);
    if (!function) return failure;
    Call call(Op::set_function_attribute);
    call.handle(Kind::function, function->handle);
    call.value<int64_t>(which);
    call.value<int64_t>(value);
    call.value<int64_t>(device ? device->local : -1);
    call.ask();
    if (!call.result() && static_cast<size_t>(which) < function->attributes.size()) {
        if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) function->dynamic_shared_limit = value;
        function->attributes[static_cast<size_t>(which)] = value;
    }
    return call.result();
}

CUresult get_parameter(CUfunction handle, size_t index, size_t* offset, size_t* size) {
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    if (!offset || index >= function->parameters.size()) return CUDA_ERROR_INVALID_VALUE;
    *offset = function->parameters[index].offset;
    if (size) *size = function->parameters[index].size;
    return CUDA_SUCCESS;
}

CUresult count_parameters(CUfunction handle, size_t* count) {
    CUresult failure = CUDA_SUCCESS;
    const Function* function = find_function(handle, failure);
    if (!function) return failure;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = function->parameters.size();
    return CUDA_SUCCESS;
}

CUresult get_name(const char** name, CUfunction handle) {
    const auto* function = handles_table().find<Function>(Kind::function, to_handle(handle));
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    *name = function->name.c_str();
    return CUDA_SUCCESS;
}

CUfunction as_function(CUkernel kernel) {
    return reinterpret_cast<CUfunction>(kernel);
}

}  // namespace

CUresult cuFuncGetAttribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
    return get_attribute(current_server(), pi, attrib, hfunc);
}
CUresult cuKernelGetAttribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
    const Device* device = client().device(dev);
    return device ? get_attribute(*device->server, pi, attrib, as_function(kernel)) : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
    return set_attribute(hfunc, attrib, value, nullptr);
}
CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
    const Device* device = client().device(dev);
    return device ? set_attribute(as_function(kernel), attrib, val, device) : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuFuncGetName(const char** name, CUfunction hfunc) {
    return get_name(name, hfunc);
}
CUresult cuKernelGetName(const char** name, CUkernel hfunc) {
    return get_name(name, as_function(hfunc));
}
CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
    return get_parameter(func, paramIndex, paramOffset, paramSize);
}
CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
    return get_parameter(as_function(kernel), paramIndex, paramOffset, paramSize);
}
CUresult cuFuncGetParamCount(CUfunction func, size_t* paramCount) {
    return count_parameters(func, paramCount);
}
CUresult cuKernelGetParamCount(CUkernel kernel, size_t* paramCount) {
    return count_parameters(as_function(kernel), paramCount);
}

// Kernels and functions share one name space of handles: either may be passed where the other is expected.
CUresult cuKernelGetFunction(CUfunction* pFunc, CUkernel kernel) {
    if (!handles_table().living(Kind::function, to_handle(kernel))) return CUDA_ERROR_INVALID_HANDLE;
    if (!pFunc) return CUDA_ERROR_INVALID_VALUE;
    *pFunc = as_function(kernel);
    return CUDA_SUCCESS;
}

CUresult cuKernelGetLibrary(CUlibrary* pLib, CUkernel kernel) {
    const auto* function = handles_table().find<Function>(Kind::function, to_handle(kernel));
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!pLib) return CUDA_ERROR_INVALID_VALUE;
    *pLib = from_handle<CUlibrary>(function->image->handle);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule* hmod, CUfunction hfunc) {
    const auto* function = handles_table().find<Function>(Kind::function, to_handle(hfunc));
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!hmod) return CUDA_ERROR_INVALID_VALUE;
    if (kind_of(function->image->handle) == Kind::library) {
        return shim::cuLibraryGetModule(hmod, from_handle<CUlibrary>(function->image->handle));
    }
    *hmod = from_handle<CUmodule>(function->image->handle);
    return CUDA_SUCCESS;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction function) {
    if (!handles_table().living(Kind::function, to_handle(function))) return CUDA_ERROR_INVALID_HANDLE;
    if (!state) return CUDA_ERROR_INVALID_VALUE;
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction function) {
    CUresult failure = CUDA_SUCCESS;
    find_function(function, failure);
    return failure;
}

}  // namespace gpuferry::shim
