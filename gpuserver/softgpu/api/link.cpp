// cuLink*: linking of PTX; the result is an image that cuModuleLoadData and cuLibraryLoadData accept.
#include "image/link.h"
#include "api/entry.h"

using namespace softgpu;

extern "C" CUresult CUDAAPI cuLinkCreate_v2(unsigned int numOptions, CUjit_option* options, void** optionValues,
                                            CUlinkState* stateOut) {
    return entry(__func__, [&] {
        check_value(stateOut != nullptr, "no place for the linker");
        *stateOut = publish(std::make_shared<LinkState>(numOptions, options, optionValues, current_target()));
    });
}

extern "C" CUresult CUDAAPI cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size,
                                             const char* name, unsigned int numOptions, CUjit_option* options,
                                             void** optionValues) {
    return entry(__func__, [&] {
        check_value(data != nullptr && size > 0, "no data to link");
        JitOptions checked(numOptions, options, optionValues);
        auto* bytes = static_cast<const std::byte*>(data);
        require<LinkState>(state)->add(type, ImageBytes::within({bytes, size}), name ? name : "ptx input");
    });
}

extern "C" CUresult CUDAAPI cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path,
                                             unsigned int numOptions, CUjit_option* options, void** optionValues) {
    return entry(__func__, [&] {
        JitOptions checked(numOptions, options, optionValues);
        auto linker = require<LinkState>(state);
        auto bytes = read_image_file(path);
        linker->add(type, ImageBytes::within(bytes), path);
    });
}

extern "C" CUresult CUDAAPI cuLinkComplete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
    return entry(__func__, [&] {
        check_value(cubinOut != nullptr, "no place for the image");
        const auto& image = require<LinkState>(state)->complete();
        *cubinOut = const_cast<std::byte*>(image.data());
        if (sizeOut) *sizeOut = image.size();
    });
}

extern "C" CUresult CUDAAPI cuLinkDestroy(CUlinkState state) {
    return entry(__func__, [&] {
        if (!withdraw<LinkState>(state)) throw DriverError(CUDA_ERROR_INVALID_HANDLE, "no such linker");
    });
}

// The interface of before CUDA 6.5 differs in the type of option values only.
extern "C" CUresult CUDAAPI cuLinkCreate(unsigned int numOptions, CUjit_option* options, void** optionValues,
                                         CUlinkState* stateOut) {
    return cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}

extern "C" CUresult CUDAAPI cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t size,
                                          const char* name, unsigned int numOptions, CUjit_option* options,
                                          void** optionValues) {
    return cuLinkAddData_v2(state, type, data, size, name, numOptions, options, optionValues);
}

extern "C" CUresult CUDAAPI cuLinkAddFile(CUlinkState state, CUjitInputType type, const char* path,
                                          unsigned int numOptions, CUjit_option* options, void** optionValues) {
    return cuLinkAddFile_v2(state, type, path, numOptions, options, optionValues);
}
