// cuModule*: programs loaded into the current context.
#include <cstdlib>
#include <cstring>

#include "api/contents.h"
#include "api/entry.h"
#include "device/context.h"
#include "image/compile.h"
#include "image/module.h"

using namespace softgpu;

namespace {

void load(CUmodule* module, const ImageBytes& bytes, unsigned options_count = 0, CUjit_option* names = nullptr,
          void** values = nullptr) {
    check_value(module != nullptr, "no place for the module");
    Context& context = Context::require_current();
    JitOptions options(options_count, names, values);
    std::shared_ptr<const Program> program;
    try {
        program = compile_image(bytes, current_target(), options);
    } catch (...) {
        options.finish();
        throw;
    }
    options.finish();
    *module = handle_of(*Module::load(context, std::move(program)));
}

}  // namespace

extern "C" CUresult CUDAAPI cuModuleLoad(CUmodule* module, const char* fname) {
    return entry(__func__, [&] {
        auto bytes = read_image_file(fname);
        load(module, ImageBytes::within(bytes));
    });
}

extern "C" CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
    return entry(__func__, [&] {
        check_value(image != nullptr, "no image");
        load(module, ImageBytes::at(image));
    });
}

extern "C" CUresult CUDAAPI cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int numOptions,
                                               CUjit_option* options, void** optionValues) {
    return entry(__func__, [&] {
        check_value(image != nullptr, "no image");
        load(module, ImageBytes::at(image), numOptions, options, optionValues);
    });
}

extern "C" CUresult CUDAAPI cuModuleLoadFatBinary(CUmodule* module, const void* fatCubin) {
    return entry(__func__, [&] {
        check_value(fatCubin != nullptr, "no image");
        load(module, ImageBytes::at(fatCubin));
    });
}

extern "C" CUresult CUDAAPI cuModuleUnload(CUmodule hmod) {
    return entry(__func__, [&] {
        auto module = require<Module>(hmod);
        if (module->of_library) throw DriverError(CUDA_ERROR_NOT_PERMITTED, "the module belongs to a library");
        Module::unload(module);
    });
}

extern "C" CUresult CUDAAPI cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
    return entry(__func__, [&] {
        check_value(mode != nullptr, "no place for the mode");
        const char* wanted = std::getenv("CUDA_MODULE_LOADING");
        *mode = wanted && !std::strcmp(wanted, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
    });
}

extern "C" CUresult CUDAAPI cuModuleGetFunction(CUfunction* hfunc, CUmodule hmod, const char* name) {
    return entry(__func__, [&] {
        check_value(hfunc && name, "no name, or no place for the function");
        *hfunc = handle_of(*require<Module>(hmod)->function(name));
    });
}

extern "C" CUresult CUDAAPI cuModuleGetFunctionCount(unsigned int* count, CUmodule mod) {
    return entry(__func__, [&] { tell_kernel_count(count, *require<Module>(mod)); });
}

extern "C" CUresult CUDAAPI cuModuleEnumerateFunctions(CUfunction* functions, unsigned int numFunctions, CUmodule mod) {
    return entry(__func__, [&] {
        const auto module = require<Module>(mod);
        tell_kernels(functions, numFunctions, *module, [&](size_t i) { return module->function(i); });
    });
}

extern "C" CUresult CUDAAPI cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
    return entry(__func__, [&] {
        check_value(name != nullptr, "no name");
        tell_variable(dptr, bytes, require<Module>(hmod)->variable(name));
    });
}
