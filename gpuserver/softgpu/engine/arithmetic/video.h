// The SIMD video instructions: two halves or four bytes at a time (PTX ISA, "SIMD Video Instructions").
#pragma once

#include "engine/arithmetic/types.h"

namespace softgpu::arithmetic {

enum class VideoOperation : uint8_t { add, sub, avrg, absdiff, min, max, set };

// Elements are counted from the lowest bits; a selector names one of the elements of {b, a}, those of a first.
struct Video {
    VideoOperation operation = VideoOperation::add;
    Comparison comparison = Comparison::eq;  // of set: eq to ge
    bool bytes = false;                      // four bytes, else two halves
    bool a_signed = false, b_signed = false;
    bool d_signed = false, saturate = false;
    bool accumulate = false;  // adds the elements to c; else they take the places of c's
    uint8_t mask = 3;         // a bit for each element that is computed
    uint8_t a_from[4] = {0, 1, 2, 3}, b_from[4] = {2, 3, 4, 5};
};

SOFTGPU_LANE int32_t video_element(uint64_t both, uint32_t from, uint32_t width, bool is_signed) {
    const auto bits = static_cast<uint32_t>(both >> (from * width)) << (32 - width);
    return is_signed ? static_cast<int32_t>(bits) >> (32 - width) : static_cast<int32_t>(bits >> (32 - width));
}

SOFTGPU_LANE int32_t video_result(const Video& v, int32_t x, int32_t y) {
    switch (v.operation) {
        case VideoOperation::add:
            return x + y;
        case VideoOperation::sub:
            return x - y;
        case VideoOperation::avrg:  // halves are rounded away from zero above it, towards minus infinity below
            return (x + y >= 0 ? x + y + 1 : x + y) >> 1;
        case VideoOperation::absdiff:
            return x < y ? y - x : x - y;
        case VideoOperation::min:
            return x < y ? x : y;
        case VideoOperation::max:
            return x < y ? y : x;
        case VideoOperation::set:
            break;
    }
    switch (v.comparison) {
        case Comparison::eq:
            return x == y;
        case Comparison::ne:
            return x != y;
        case Comparison::lt:
            return x < y;
        case Comparison::le:
            return x <= y;
        case Comparison::gt:
            return x > y;
        default:
            return x >= y;
    }
}

SOFTGPU_LANE uint32_t video(const Video& v, uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t both = uint64_t{b} << 32 | a;
    const uint32_t width = v.bytes ? 8 : 16, ones = (1U << width) - 1;
    const int32_t lowest = v.d_signed ? -(1 << (width - 1)) : 0;
    const auto highest = static_cast<int32_t>(v.d_signed ? ones >> 1 : ones);
    uint32_t d = c;
    for (uint32_t k = 0; k < 32 / width; ++k) {
        if (!(v.mask >> k & 1)) continue;
        int32_t t = video_result(v, video_element(both, v.a_from[k], width, v.a_signed),
                                 video_element(both, v.b_from[k], width, v.b_signed));
        if (v.saturate) t = t < lowest ? lowest : t > highest ? highest : t;
        const auto bits = static_cast<uint32_t>(t);
        d = v.accumulate ? d + bits : (d & ~(ones << (k * width))) | (bits & ones) << (k * width);
    }
    return d;
}

}  // namespace softgpu::arithmetic
