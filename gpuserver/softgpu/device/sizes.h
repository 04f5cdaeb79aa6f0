// Arithmetic on sizes and addresses that programs give: what does not fit in 64 bits is an error, never a smaller
// number.
#pragma once

#include <cstdint>

#include "device/error.h"

namespace softgpu {

// `value` up to the next multiple of `unit`. The caller has checked that it is far from the end of 64 bits.
constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

// Throw INVALID_VALUE with `what` when the result does not fit.
inline uint64_t checked_sum(uint64_t a, uint64_t b, const char* what) {
    uint64_t sum = 0;
    check_value(!__builtin_add_overflow(a, b, &sum), what);
    return sum;
}
inline uint64_t checked_product(uint64_t a, uint64_t b, const char* what) {
    uint64_t product = 0;
    check_value(!__builtin_mul_overflow(a, b, &product), what);
    return product;
}

// Whether [offset, offset + count) lies within [0, size).
constexpr bool fits(uint64_t offset, uint64_t count, uint64_t size) {
    return offset <= size && count <= size - offset;
}

}  // namespace softgpu
