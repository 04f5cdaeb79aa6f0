// cuLibrary*: programs loaded independently of contexts.
#include "image/library.h"
#include "api/contents.h"
#include "api/entry.h"
#include "device/context.h"
#include "image/compile.h"

using namespace softgpu;

namespace {

void check_library_options(unsigned count, const CUlibraryOption* options, void* const* values) {
    check_value(count == 0 || options, "library options without their array");
    for (unsigned i = 0; i < count; ++i) {
        check_value(options[i] >= 0 && options[i] < CU_LIBRARY_NUM_OPTIONS, "unknown library option");
        check_value(options[i] != CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE || values,
                    "a library option without its value");
    }
}

void load(CUlibrary* library, const ImageBytes& bytes, unsigned count, CUjit_option* names, void** values) {
    check_value(library != nullptr, "no place for the library");
    JitOptions options(count, names, values);
    std::shared_ptr<const Program> program;
    try {
        program = compile_image(bytes, current_target(), options);
    } catch (...) {
        options.finish();
        throw;
    }
    options.finish();
    *library = publish(std::make_shared<Library>(std::move(program)));
}

}  // namespace

extern "C" CUresult CUDAAPI cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jitOptions,
                                              void** jitOptionsValues, unsigned int numJitOptions,
                                              CUlibraryOption* libraryOptions, void** libraryOptionValues,
                                              unsigned int numLibraryOptions) {
    return entry(__func__, [&] {
        check_value(code != nullptr, "no image");
        check_library_options(numLibraryOptions, libraryOptions, libraryOptionValues);
        load(library, ImageBytes::at(code), numJitOptions, jitOptions, jitOptionsValues);
    });
}

extern "C" CUresult CUDAAPI cuLibraryLoadFromFile(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                                                  void** jitOptionsValues, unsigned int numJitOptions,
                                                  CUlibraryOption* libraryOptions, void** libraryOptionValues,
                                                  unsigned int numLibraryOptions) {
    return entry(__func__, [&] {
        check_library_options(numLibraryOptions, libraryOptions, libraryOptionValues);
        auto bytes = read_image_file(fileName);
        load(library, ImageBytes::within(bytes), numJitOptions, jitOptions, jitOptionsValues);
    });
}

extern "C" CUresult CUDAAPI cuLibraryUnload(CUlibrary library) {
    return entry(__func__, [&] { Library::unload(require<Library>(library)); });
}

extern "C" CUresult CUDAAPI cuLibraryGetKernel(CUkernel* pKernel, CUlibrary library, const char* name) {
    return entry(__func__, [&] {
        check_value(pKernel && name, "no name, or no place for the kernel");
        *pKernel = handle_of(*require<Library>(library)->kernel(name));
    });
}

extern "C" CUresult CUDAAPI cuLibraryGetKernelCount(unsigned int* count, CUlibrary lib) {
    return entry(__func__, [&] { tell_kernel_count(count, *require<Library>(lib)); });
}

extern "C" CUresult CUDAAPI cuLibraryEnumerateKernels(CUkernel* kernels, unsigned int numKernels, CUlibrary lib) {
    return entry(__func__, [&] {
        const auto library = require<Library>(lib);
        tell_kernels(kernels, numKernels, *library, [&](size_t i) { return library->kernel(i); });
    });
}

extern "C" CUresult CUDAAPI cuLibraryGetModule(CUmodule* pMod, CUlibrary library) {
    return entry(__func__, [&] {
        check_value(pMod != nullptr, "no place for the module");
        auto object = require<Library>(library);
        *pMod = handle_of(*object->module(Context::require_current()));
    });
}

extern "C" CUresult CUDAAPI cuLibraryGetGlobal(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    return entry(__func__, [&] {
        check_value(name != nullptr && (dptr || bytes), "no name, or no place for the answer");
        auto object = require<Library>(library);
        tell_variable(dptr, bytes, object->module(Context::require_current())->variable(name));
    });
}

extern "C" CUresult CUDAAPI cuLibraryGetManaged(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    return entry(__func__, [&] {
        check_value(name != nullptr && (dptr || bytes), "no name, or no place for the answer");
        auto variable = require<Library>(library)->managed(name);
        if (dptr) *dptr = variable.address;
        if (bytes) *bytes = variable.size;
    });
}

// Functions with one address on host and device exist on no device of this kind.
extern "C" CUresult CUDAAPI cuLibraryGetUnifiedFunction(void** fptr, CUlibrary library, const char* symbol) {
    return entry(__func__, [&] {
        check_value(fptr && symbol, "no name, or no place for the function");
        require<Library>(library);
        throw DriverError(CUDA_ERROR_NOT_FOUND, "there is no unified function " + std::string(symbol));
    });
}
