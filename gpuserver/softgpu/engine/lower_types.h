// Relations between PTX types that several lowerings need.
#pragma once

#include "ptx/ast.h"

namespace softgpu {

inline ptx::Type bits_of_width(uint32_t bytes) {
    switch (bytes) {
        case 2:
            return ptx::Type::b16;
        case 4:
            return ptx::Type::b32;
        case 8:
            return ptx::Type::b64;
        default:
            return ptx::Type::b128;
    }
}

inline ptx::Type unsigned_of(ptx::Type t) {
    switch (t) {
        case ptx::Type::s16:
        case ptx::Type::b16:
            return ptx::Type::u16;
        case ptx::Type::s32:
        case ptx::Type::b32:
            return ptx::Type::u32;
        case ptx::Type::s64:
        case ptx::Type::b64:
            return ptx::Type::u64;
        default:
            return t;
    }
}

// The type of each half of a packed one.
inline ptx::Type half_of(ptx::Type pair) {
    return pair == ptx::Type::f16x2 ? ptx::Type::f16 : ptx::Type::bf16;
}

}  // namespace softgpu
