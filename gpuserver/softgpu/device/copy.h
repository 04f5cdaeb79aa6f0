// Copies and sets: one description for all of them, resolved and checked when the call is made, performed later.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "device/array.h"
#include "device/context.h"
#include "device/stream.h"

namespace softgpu {

// Where the bytes of one end lie. A linear copy is one row of one slice.
struct CopyEnd {
    enum class Side { pageable, pinned, managed, device };
    uint64_t base = 0;   // address of the first byte
    uint64_t pitch = 0;  // bytes from row to row
    uint64_t slice = 0;  // bytes from slice to slice
    Side side = Side::pageable;
    std::shared_ptr<Array> array;  // kept alive
};

struct Copy {
    CopyEnd to, from;
    uint64_t width = 0, height = 1, depth = 1;  // bytes, rows, slices
    [[nodiscard]] uint64_t bytes() const { return width * height * depth; }
    [[nodiscard]] bool touches_pageable() const {
        return to.side == CopyEnd::Side::pageable || from.side == CopyEnd::Side::pageable;
    }
};

// What a pointer of the program may be in a copy.
enum class PointerRole {
    host,    // any host pointer (or a device pointer, as unified addressing allows)
    device,  // must be memory CUDA knows
    any,     // decided by where it points
};

// Throw INVALID_VALUE when an end is not memory it may be.
CopyEnd resolve_end(uint64_t address, uint64_t bytes, PointerRole role);
Copy linear_copy(uint64_t to, PointerRole to_role, uint64_t from, PointerRole from_role, uint64_t bytes);
Copy plan_copy(const CUDA_MEMCPY2D& description);
Copy plan_copy(const CUDA_MEMCPY3D& description);
Copy plan_copy(const CUDA_MEMCPY3D_PEER& description);
Copy array_copy(uint64_t address, PointerRole role, const std::shared_ptr<Array>& array, uint64_t offset,
                uint64_t bytes, bool to_array);

// Moves the bytes. Throws ILLEGAL_ADDRESS when memory of an end was freed since.
void perform_copy(const Copy& copy);

// A set: `value` in the low `element` bytes, `width` elements a row.
struct Set {
    uint64_t base = 0, pitch = 0;
    uint32_t value = 0;
    unsigned element = 1;  // bytes: 1, 2 or 4
    uint64_t width = 0, height = 1;
};
Set plan_set(uint64_t base, uint64_t pitch, uint32_t value, unsigned element, uint64_t width, uint64_t height);
void perform_set(const Set& set);

// Runs a copy in a stream as CUDA does: `wait` for the synchronous calls; asynchronous ones that touch pageable memory
// take the source bytes (or deliver them) before they return.
// `with`: contexts of other devices that it is to be serialised with, besides those that copy_order.h finds.
void submit_copy(const std::shared_ptr<Stream>& stream, Copy copy, bool wait,
                 std::vector<std::shared_ptr<Context>> with = {});
void submit_set(const std::shared_ptr<Stream>& stream, const Set& set, bool wait);

}  // namespace softgpu
