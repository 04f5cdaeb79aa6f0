// Handlers that are compiled once: everything that is not worth vectorising. Each returns nullptr for a combination
// that PTX does not have.
#pragma once

#include "engine/code.h"
#include "engine/shape.h"
#include "ptx/ast.h"
#include "ptx/link.h"

namespace softgpu {

// --- registers.cpp: moves, special registers, predicates, addresses of windows
// A special register into lanes of 4 or 8 bytes: kind is the ptx::Special, imm the component.
Handler find_special(uint32_t bytes);
// and, or, xor (kind 0, 1, 2), not (3), mov (4) of predicates: d, a, b.
void predicate_logic(Context& c, const Inst& i, uint32_t mask);
// selp.pred: d = c ? a : b, kind 1: c negated.
void predicate_select(Context& c, const Inst& i, uint32_t mask);
// d: 32-bit lanes, 1 where predicate a is true (kind: its negation), else 0.
void predicate_to_lanes(Context& c, const Inst& i, uint32_t mask);
// Pack `kind` parts (extra[]) of `part` bytes into a lane of d, or unpack a into extra[].
Handler find_pack(uint32_t part_bytes, uint32_t whole_bytes);
Handler find_unpack(uint32_t part_bytes, uint32_t whole_bytes);
// 128-bit mov.
void move_128(Context& c, const Inst& i, uint32_t mask);
// d (8-byte lanes) = address in the local window of frame offset imm; kind 4: 4-byte lanes.
void frame_address(Context& c, const Inst& i, uint32_t mask);
// d (8 bytes) = address of parameter offset imm.
void parameter_address(Context& c, const Inst& i, uint32_t mask);
// cvta: kind 0 shared to generic, 1 generic to shared, 2 local to generic, 3 generic to local. 8-byte lanes.
void convert_address(Context& c, const Inst& i, uint32_t mask);
// isspacep: d predicate; kind is the ptx::Space; 8-byte lanes.
void is_in_space(Context& c, const Inst& i, uint32_t mask);
// alloca: d address (8 bytes), a size (8 bytes), imm alignment. stacksave: kind 1. stackrestore: kind 2, a.
void stack_allocate(Context& c, const Inst& i, uint32_t mask);

// --- carry.cpp: add.cc, addc, sub.cc, subc, mad.cc, madc. kind: 1 reads the carry, 2 writes it.
Handler find_carry(ptx::Opcode op, ptx::Type type, bool high);

// --- control.cpp
void unsupported(Context& c, const Inst& i, uint32_t mask);  // imm: ptx::Opcode
void trap(Context& c, const Inst& i, uint32_t mask);
void no_operation(Context& c, const Inst& i, uint32_t mask);
void fence(Context& c, const Inst& i, uint32_t mask);  // kind: Ordering, 4: sequentially consistent
void nanosleep(Context& c, const Inst& i, uint32_t mask);
// The device runtime's functions: call site `target` says where arguments and result lie in the frame.
Handler find_builtin(ptx::Builtin builtin);

// --- collectives.cpp. extra[0]: membermask; extra[1]: second destination or nothing.
// kind: 0 up, 1 down, 2 bfly, 3 idx.
void shuffle(Context& c, const Inst& i, uint32_t mask);
// kind: 0 all, 1 any, 2 uni, 3 ballot; +4: the predicate a is negated.
void vote(Context& c, const Inst& i, uint32_t mask);
Handler find_match(bool all, uint32_t bytes);
enum class Reduction : uint8_t {
    add_u32,
    min_u32,
    max_u32,
    min_s32,
    max_s32,
    and_b32,
    or_b32,
    xor_b32,
    min_f32,
    max_f32
};
// kind: Reduction; imm: 1 .abs, 2 .NaN
void reduce(Context& c, const Inst& i, uint32_t mask);
void active_mask(Context& c, const Inst& i, uint32_t mask);
void elect(Context& c, const Inst& i, uint32_t mask);

// --- access_rare.cpp: vectors, local memory, frames, parameters
Handler find_rare_access(const Access& access);

// --- atomics.cpp. a address, b and c operands; d old value or nothing.
enum class AtomicOp : uint8_t { add, inc, dec, min, max, and_, or_, xor_, exch, cas };
Handler find_atomic(AtomicOp op, ptx::Type type, bool shared, uint32_t address_bytes);

// --- texture_instructions.cpp. a: object's handle, or its address; imm: TextureForm; kind: ptx::Opcode; extra:
// operands.
void texture_sample(Context& c, const Inst& i, uint32_t mask);
void texture_gather(Context& c, const Inst& i, uint32_t mask);
void texture_query(Context& c, const Inst& i, uint32_t mask);  // d
void surface_load(Context& c, const Inst& i, uint32_t mask);
void surface_store(Context& c, const Inst& i, uint32_t mask);

// --- async.cpp: mbarrier and cp.async, executed at once
// kind: 0 init, 1 inval, 2 arrive, 3 arrive_drop, 4 expect_tx, 5 complete_tx, 6 test_wait (state), 7 test_wait.parity,
// 8 arrive.expect_tx. a address (8-byte generic lanes), b operand, d result.
void mbarrier(Context& c, const Inst& i, uint32_t mask);
void mbarrier_pending(Context& c, const Inst& i, uint32_t mask);
// a destination, b source (generic, 8-byte lanes), c bytes to read or nothing, imm: bytes to write.
void copy_async(Context& c, const Inst& i, uint32_t mask);

}  // namespace softgpu
