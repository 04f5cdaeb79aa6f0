// cuFunc* and cuKernel*: what is known of a kernel and what may be set.
#include "api/entry.h"
#include "device/context.h"
#include "image/attributes.h"
#include "image/library.h"

using namespace softgpu;

namespace {

std::shared_ptr<Context> context_of(const Function& function) {
    auto context = function.context.lock();
    if (!context || !context->alive())
        throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the function's context ended");
    return context;
}

void get_parameter(const KernelInfo& info, size_t index, size_t* offset, size_t* size) {
    check_value(offset != nullptr, "no place for the offset");
    check_value(index < info.parameters.size(), "the kernel has no such parameter");
    *offset = info.parameters[index].offset;
    if (size) *size = info.parameters[index].size;
}

void check_cache_config(CUfunc_cache config) {
    check_value(config >= CU_FUNC_CACHE_PREFER_NONE && config <= CU_FUNC_CACHE_PREFER_EQUAL,
                "no such cache preference");
}

// What a function or kernel handle stands for, without loading anything.
const KernelInfo& info_of(const std::shared_ptr<Object>& object) {
    if (auto function = std::dynamic_pointer_cast<Function>(object)) return function->info();
    return std::static_pointer_cast<Kernel>(object)->info();
}

}  // namespace

// --- functions

extern "C" CUresult CUDAAPI cuFuncGetAttribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
    return entry(__func__, [&] {
        check_value(pi != nullptr, "no place for the value");
        auto function = resolve_function(hfunc);
        *pi = function_attribute(*function, context_of(*function)->device(), attrib);
    });
}

extern "C" CUresult CUDAAPI cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
    return entry(__func__, [&] {
        auto function = resolve_function(hfunc);
        check_function_attribute(function->info(), context_of(*function)->device(), attrib, value);
        set_function_attribute(*function, attrib, value);
    });
}

extern "C" CUresult CUDAAPI cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
    return entry(__func__, [&] {
        check_cache_config(config);
        resolve_function(hfunc)->cache_config = config;
    });
}

extern "C" CUresult CUDAAPI cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config) {
    return entry(__func__, [&] {
        check_value(
            config >= CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE && config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE,
            "no such bank size");
        resolve_function(hfunc);  // banks make no difference here, as on every device since Maxwell
    });
}

extern "C" CUresult CUDAAPI cuFuncGetModule(CUmodule* hmod, CUfunction hfunc) {
    return entry(__func__, [&] {
        check_value(hmod != nullptr, "no place for the module");
        *hmod = to_handle<CUmodule>(resolve_function(hfunc)->owner);
    });
}

extern "C" CUresult CUDAAPI cuFuncGetName(const char** name, CUfunction hfunc) {
    return entry(__func__, [&] {
        check_value(name != nullptr, "no place for the name");
        *name = info_of(require_function_or_kernel(to_value(hfunc))).name.c_str();
    });
}

extern "C" CUresult CUDAAPI cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t* paramOffset,
                                               size_t* paramSize) {
    return entry(__func__, [&] {
        get_parameter(info_of(require_function_or_kernel(to_value(func))), paramIndex, paramOffset, paramSize);
    });
}

extern "C" CUresult CUDAAPI cuFuncGetParamCount(CUfunction func, size_t* paramCount) {
    return entry(__func__, [&] {
        check_value(paramCount != nullptr, "no place for the count");
        *paramCount = info_of(require_function_or_kernel(to_value(func))).parameters.size();
    });
}

extern "C" CUresult CUDAAPI cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction function) {
    return entry(__func__, [&] {
        check_value(state != nullptr, "no place for the state");
        resolve_function(function);
        *state = CU_FUNCTION_LOADING_STATE_LOADED;
    });
}

extern "C" CUresult CUDAAPI cuFuncLoad(CUfunction function) {
    return entry(__func__, [&] { resolve_function(function); });
}

// --- kernels

extern "C" CUresult CUDAAPI cuKernelGetFunction(CUfunction* pFunc, CUkernel kernel) {
    return entry(__func__, [&] {
        check_value(pFunc != nullptr, "no place for the function");
        auto object = require_kernel(kernel);
        *pFunc = handle_of(*object->function(Context::require_current()));
    });
}

extern "C" CUresult CUDAAPI cuKernelGetLibrary(CUlibrary* pLib, CUkernel kernel) {
    return entry(__func__, [&] {
        check_value(pLib != nullptr, "no place for the library");
        *pLib = handle_of(*require_kernel(kernel)->library());
    });
}

extern "C" CUresult CUDAAPI cuKernelGetAttribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
    return entry(__func__, [&] {
        check_value(pi != nullptr, "no place for the value");
        *pi = require_kernel(kernel)->attribute(attrib, require_device(dev));
    });
}

extern "C" CUresult CUDAAPI cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
    return entry(__func__, [&] { require_kernel(kernel)->set_attribute(attrib, val, require_device(dev)); });
}

extern "C" CUresult CUDAAPI cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
    return entry(__func__, [&] {
        check_cache_config(config);
        require_kernel(kernel)->set_cache_config(config, require_device(dev));
    });
}

extern "C" CUresult CUDAAPI cuKernelGetName(const char** name, CUkernel hfunc) {
    return entry(__func__, [&] {
        check_value(name != nullptr, "no place for the name");
        *name = require_kernel(hfunc)->info().name.c_str();
    });
}

extern "C" CUresult CUDAAPI cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t* paramOffset,
                                                 size_t* paramSize) {
    return entry(__func__, [&] { get_parameter(require_kernel(kernel)->info(), paramIndex, paramOffset, paramSize); });
}

extern "C" CUresult CUDAAPI cuKernelGetParamCount(CUkernel kernel, size_t* paramCount) {
    return entry(__func__, [&] {
        check_value(paramCount != nullptr, "no place for the count");
        *paramCount = require_kernel(kernel)->info().parameters.size();
    });
}
