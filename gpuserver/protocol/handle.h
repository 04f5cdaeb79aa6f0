// The handles that programs see: a kind, a generation and an index, never an address.
//
// The end that makes an object names it: the client for the calls that it posts (CREATE), the worker for objects that
// come out of an awaited call. The two choose indices from halves of their own.
#pragma once

#include <cstdint>

#include "protocol_ops.h"  // generated: enum Kind, enum Op

namespace gpuferry {

using Handle = uint64_t;

constexpr uint64_t handle_mark = 0x6f;  // makes every handle a non-canonical address: nobody can dereference one
constexpr uint32_t worker_named = 0x8000'0000;

constexpr Handle make_handle(Kind kind, uint16_t generation, uint32_t index) {
    return handle_mark << 56 | uint64_t{static_cast<uint8_t>(kind)} << 48 | uint64_t{generation} << 32 | index;
}
constexpr bool is_handle(Handle handle) {
    return handle >> 56 == handle_mark;
}
constexpr Kind kind_of(Handle handle) {
    return static_cast<Kind>(handle >> 48 & 0xff);
}
constexpr uint16_t generation_of(Handle handle) {
    return static_cast<uint16_t>(handle >> 32);
}
constexpr uint32_t index_of(Handle handle) {
    return static_cast<uint32_t>(handle) & ~worker_named;
}
constexpr bool named_by_worker(Handle handle) {
    return handle & worker_named;
}

// Objects of one end at most: a hostile peer cannot make the other end's tables grow without bound.
constexpr uint32_t most_objects = 1u << 22;

}  // namespace gpuferry
