// Fuzz entry of the reader of code images (../image): whatever the bytes are, an Image or an ImageError comes back.
#include <cstddef>
#include <cstdint>

#include "image/archive.h"
#include "image/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr int target = 990;
    auto bytes = softgpu::ImageBytes::within({reinterpret_cast<const std::byte*>(data), size});
    try {
        auto image = softgpu::read_image(bytes, target);
        if (image.ptx.empty()) __builtin_trap();
        auto linked = softgpu::write_linked_image(image.ptx, image.max_registers);
        auto again = softgpu::read_image(softgpu::ImageBytes::within(linked), target);
        if (again.ptx != image.ptx) __builtin_trap();
    } catch (const softgpu::ImageError&) {
    }
    try {
        softgpu::read_device_code(bytes, target);
    } catch (const softgpu::ImageError&) {
    }
    return 0;
}
