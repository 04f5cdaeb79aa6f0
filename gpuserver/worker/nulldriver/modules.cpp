// The null driver's modules: the kernels' names and parameters are read from PTX text, plain or inside an uncompressed
// fatbin; launching them does nothing.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

uint64_t null_driver_handle();

namespace {

struct Kernel {
    std::string name;
    std::vector<std::pair<size_t, size_t>> parameters;  // offset, size
};

struct Image {
    std::deque<Kernel> kernels;
};

size_t type_bytes(std::string_view type) {
    const size_t digits = type.find_first_of("0123456789");
    return digits == std::string_view::npos ? 8 : static_cast<size_t>(std::atoi(type.data() + digits)) / 8;
}

// `.param .align 8 .b8 name[16]` → alignment and size.
std::pair<size_t, size_t> parameter_shape(std::string_view text) {
    size_t align = 0, count = 1;
    if (const size_t at = text.find(".align"); at != std::string_view::npos) {
        align = static_cast<size_t>(std::atoi(text.data() + at + 6));
    }
    if (const size_t at = text.find('['); at != std::string_view::npos) {
        count = static_cast<size_t>(std::atoi(text.data() + at + 1));
    }
    size_t element = 8;
    for (const char* kind : {".u", ".s", ".b", ".f"}) {
        for (size_t at = text.find(kind); at != std::string_view::npos; at = text.find(kind, at + 1)) {
            if (at + 2 < text.size() && text[at + 2] >= '0' && text[at + 2] <= '9')
                element = type_bytes(text.substr(at + 2));
        }
    }
    return {std::max(align, element), element * count};
}

void read_ptx(std::string_view text, Image& image) {
    for (size_t at = text.find(".entry "); at != std::string_view::npos; at = text.find(".entry ", at + 1)) {
        const size_t name = at + 7;
        const size_t end = text.find_first_of("( \t\n{", name);
        const size_t body = text.find('{', name);
        if (end == std::string_view::npos || body == std::string_view::npos) return;
        Kernel kernel;
        kernel.name = text.substr(name, end - name);
        size_t offset = 0;
        const std::string_view head = text.substr(end, body - end);
        for (size_t param = head.find(".param"); param != std::string_view::npos;
             param = head.find(".param", param + 1)) {
            const auto [align, size] = parameter_shape(head.substr(param, head.find_first_of(",)", param) - param));
            offset = (offset + align - 1) / align * align;
            kernel.parameters.emplace_back(offset, size);
            offset += size;
        }
        image.kernels.push_back(std::move(kernel));
    }
}

void read_fatbin(const char* data, Image& image) {
    uint64_t size = 0;
    std::memcpy(&size, data + 8, sizeof size);
    for (const char* entry = data + 16; entry < data + 16 + size;) {
        uint16_t kind = 0;
        uint32_t head = 0, padded = 0;
        std::memcpy(&kind, entry, sizeof kind);
        std::memcpy(&head, entry + 4, sizeof head);
        std::memcpy(&padded, entry + 8, sizeof padded);
        if (kind == 1) read_ptx(std::string_view(entry + head, padded), image);
        entry += head + padded;
    }
}

Image* read_image(const void* data) {
    auto* image = new Image;
    uint32_t magic = 0;
    std::memcpy(&magic, data, sizeof magic);
    const auto* bytes = static_cast<const char*>(data);
    if (magic == 0x466243b1) std::memcpy(&bytes, bytes + 8, sizeof bytes);
    std::memcpy(&magic, bytes, sizeof magic);
    if (magic == 0xba55ed50) {
        read_fatbin(bytes, *image);
    } else {
        read_ptx(bytes, *image);
    }
    return image;
}

Image* image_of(const void* handle) {
    return static_cast<Image*>(const_cast<void*>(handle));
}

CUresult parameter(const void* function, size_t index, size_t* offset, size_t* size) {
    const auto& parameters = static_cast<const Kernel*>(function)->parameters;
    if (index >= parameters.size()) return CUDA_ERROR_INVALID_VALUE;
    *offset = parameters[index].first;
    *size = parameters[index].second;
    return CUDA_SUCCESS;
}

template <class Function>
CUresult enumerate(Function* functions, unsigned count, const void* handle) {
    for (unsigned i = 0; i < count; ++i) functions[i] = reinterpret_cast<Function>(&image_of(handle)->kernels[i]);
    return CUDA_SUCCESS;
}

CUresult find(void** function, const void* handle, const char* name) {
    for (Kernel& kernel : image_of(handle)->kernels) {
        if (kernel.name == name) return *function = &kernel, CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}

CUresult attribute(int* value, CUfunction_attribute which) {
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK           ? 1024
             : which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? 49152
                                                                        : 0;
    return CUDA_SUCCESS;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* data, unsigned, CUjit_option*, void**) {
    *module = reinterpret_cast<CUmodule>(read_image(data));
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* data) {
    return cuModuleLoadDataEx(module, data, 0, nullptr, nullptr);
}
CUresult cuLibraryLoadData(CUlibrary* library, const void* data, CUjit_option*, void**, unsigned, CUlibraryOption*,
                           void**, unsigned) {
    *library = reinterpret_cast<CUlibrary>(read_image(data));
    return CUDA_SUCCESS;
}
CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule module) {
    *count = static_cast<unsigned>(image_of(module)->kernels.size());
    return CUDA_SUCCESS;
}
CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary library) {
    *count = static_cast<unsigned>(image_of(library)->kernels.size());
    return CUDA_SUCCESS;
}
CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned count, CUmodule module) {
    return enumerate(functions, count, module);
}
CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned count, CUlibrary library) {
    return enumerate(kernels, count, library);
}
CUresult cuFuncGetName(const char** name, CUfunction function) {
    *name = reinterpret_cast<Kernel*>(function)->name.c_str();
    return CUDA_SUCCESS;
}
CUresult cuKernelGetName(const char** name, CUkernel kernel) {
    return cuFuncGetName(name, reinterpret_cast<CUfunction>(kernel));
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* size) {
    return parameter(function, index, offset, size);
}
CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t* offset, size_t* size) {
    return parameter(kernel, index, offset, size);
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction) {
    return attribute(value, which);
}
CUresult cuKernelGetAttribute(int* value, CUfunction_attribute which, CUkernel, CUdevice) {
    return attribute(value, which);
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    return find(reinterpret_cast<void**>(function), module, name);
}
CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
    return find(reinterpret_cast<void**>(kernel), library, name);
}
CUresult cuModuleUnload(CUmodule module) {
    delete image_of(module);
    return CUDA_SUCCESS;
}
CUresult cuLibraryUnload(CUlibrary library) {
    delete image_of(library);
    return CUDA_SUCCESS;
}
}
#pragma GCC visibility pop
