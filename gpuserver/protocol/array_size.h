// What a CUDA array counts against a slice. The driver does not say what an array takes before it is made, so both ends
// reckon alike: rows padded to 512 bytes, as a pitched copy of it would be.
#pragma once

#ifndef __CUDA_API_VERSION_INTERNAL  // as the generated headers include it
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <algorithm>
#include <cstdint>

namespace gpuferry {

// Bytes of one texel; 0 for a format that cuda.h does not name. Packed and block-compressed formats are rounded up.
inline uint64_t texel_bytes(CUarray_format format, unsigned channels) {
    switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT8:
            return channels;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_HALF:
            return 2ull * channels;
        case CU_AD_FORMAT_UNSIGNED_INT32:
        case CU_AD_FORMAT_SIGNED_INT32:
        case CU_AD_FORMAT_FLOAT:
            return 4ull * channels;
        default:
            break;
    }
    if (format >= CU_AD_FORMAT_BC1_UNORM && format <= CU_AD_FORMAT_BC7_UNORM_SRGB) return 1;
    if (format >= CU_AD_FORMAT_UNORM_INT8X1 && format <= CU_AD_FORMAT_SNORM_INT8X4) return 4;
    return format >= 0x50 && format <= 0xcb ? 8 : 0;
}

// 0 for a descriptor that no driver takes: it makes nothing, and counts nothing.
inline uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR& form, uint64_t levels) {
    constexpr uint64_t pitch_unit = 512, longest_side = 1u << 20, most_levels = 32;
    const uint64_t texel = texel_bytes(form.Format, form.NumChannels);
    const bool sides = form.Width && form.Width <= longest_side && form.Height <= longest_side;
    if (!texel || !sides || form.Depth > longest_side || form.NumChannels > 4 || levels > most_levels) return 0;
    const bool layered = form.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
    uint64_t bytes = 0;
    for (uint64_t level = 0; level < levels; ++level) {
        const uint64_t row = std::max<uint64_t>(form.Width >> level, 1) * texel;
        const uint64_t rows = std::max<uint64_t>(form.Height >> level, 1);
        const uint64_t slices = std::max<uint64_t>(layered ? form.Depth : form.Depth >> level, 1);
        uint64_t level_bytes = 0;
        if (__builtin_mul_overflow((row + pitch_unit - 1) / pitch_unit * pitch_unit * rows, slices, &level_bytes) ||
            __builtin_add_overflow(bytes, level_bytes, &bytes)) {
            return ~uint64_t{0};
        }
    }
    return bytes;
}

}  // namespace gpuferry
