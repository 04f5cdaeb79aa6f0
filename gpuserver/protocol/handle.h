// The handles that programs see: a kind, a generation, a server and an index, never an address.
//
// A program may use the GPUs of several servers: each of its sessions has a number, and every handle carries the number
// of the session whose worker knows the object.
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
constexpr unsigned index_bits = 24;
constexpr unsigned most_servers = 64;  // of one program

constexpr Handle make_handle(Kind kind, uint16_t generation, uint32_t index, unsigned server) {
    return handle_mark << 56 | uint64_t{static_cast<uint8_t>(kind)} << 48 | uint64_t{generation} << 32 |
           uint64_t{server} << index_bits | index;
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
    return static_cast<uint32_t>(handle) & ((1u << index_bits) - 1);
}
// The number of the server's session in its program: below `most_servers` for handles that either end has made.
constexpr unsigned server_of(Handle handle) {
    return (static_cast<uint32_t>(handle) & ~worker_named) >> index_bits;
}
constexpr bool named_by_worker(Handle handle) {
    return handle & worker_named;
}

// Objects of one end at most: a hostile peer cannot make the other end's tables grow without bound.
constexpr uint32_t most_objects = 1u << 22;

}  // namespace gpuferry
