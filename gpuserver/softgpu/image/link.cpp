#include "image/link.h"

#include "image/archive.h"

namespace softgpu {

void LinkState::add(CUjitInputType type, const ImageBytes& bytes, const std::string& name) {
    std::lock_guard lock(mutex_);
    try {
        add_input(type, bytes, name);
    } catch (const ImageError& error) {
        options_.complain(name + ": " + error.what());
        options_.finish();
        throw;
    } catch (...) {
        options_.finish();
        throw;
    }
}

void LinkState::add_input(CUjitInputType type, const ImageBytes& bytes, const std::string& name) {
    if (type == CU_JIT_INPUT_OBJECT || type == CU_JIT_INPUT_LIBRARY) {
        for (auto& text : read_device_code(bytes, target_))
            sources_.push_back({name, std::move(text), options_.max_registers()});
        return;
    }
    if (type == CU_JIT_INPUT_NVVM) {
        throw DriverError(CUDA_ERROR_NOT_SUPPORTED, "the software GPU links PTX, not NVVM IR");
    }
    check_value(type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_CUBIN || type == CU_JIT_INPUT_FATBINARY,
                "no such kind of linker input");
    Image image = read_image(bytes, target_);
    for (auto& text : image.ptx) {
        check_ptx({name, text, 0}, options_);
        sources_.push_back({name, std::move(text), options_.max_registers()});
    }
}

const std::vector<std::byte>& LinkState::complete() {
    std::lock_guard lock(mutex_);
    if (!image_.empty()) return image_;
    try {
        if (sources_.empty()) throw DriverError(CUDA_ERROR_INVALID_IMAGE, "nothing to link");
        compile_ptx(sources_, options_);
    } catch (...) {
        options_.finish();
        throw;
    }
    std::vector<std::string> texts;
    for (const auto& source : sources_) texts.push_back(source.text);
    image_ = write_linked_image(texts, options_.max_registers());
    options_.finish();
    return image_;
}

}  // namespace softgpu
