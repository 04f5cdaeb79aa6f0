// The internal form: what PTX is compiled to, once per kernel, and what warps execute.
//
// Registers are structures of arrays: a register slot holds the 32 lanes of a warp side by side, 2, 4, 8 or 16 bytes
// each; a predicate is one 32-bit mask. Constants are slots too, spread over all lanes. An operand is the slot's byte
// offset: from the start of the frame's registers, or, when negative, back from the end of the kernel's constants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace softgpu {

struct Context;
struct Inst;

// Executes one instruction for the lanes in `mask` (never empty). Throws KernelFault.
using Handler = void (*)(Context&, const Inst&, uint32_t mask);

inline constexpr int32_t nothing = std::numeric_limits<int32_t>::min();
inline constexpr uint32_t lanes = 32;
inline constexpr uint32_t all_lanes = 0xffffffffU;

// What the warp loop itself must do.
enum class Flow : uint8_t {
    next,           // run the handler, go on
    branch,         // to `target`
    branch_table,   // brx.idx: index in a, table `target`
    call,           // call site `target`
    call_indirect,  // address in a
    ret,
    exit,
    barrier,       // a: number, b: thread count or nothing; `kind` says which
    warp_barrier,  // a: membermask
    collective,    // run the handler once all lanes of the membermask (extra[extra]) are here
    sleep,         // run the handler, let other warps go
};

enum class BarrierKind : uint8_t { sync, arrive, red_popc, red_and, red_or };

struct alignas(64) Inst {
    Handler run = nullptr;
    int64_t imm = 0;
    int32_t d = nothing, a = nothing, b = nothing, c = nothing;
    int32_t guard = nothing;
    uint32_t extra = 0;   // first of further operands in Code::extra
    uint32_t target = 0;  // instruction, table or call site
    uint32_t line = 0;
    Flow flow = Flow::next;
    bool guard_negated = false;
    uint8_t kind = 0;   // small parameter of the handler
    uint8_t cache = 0;  // which cached address range a memory instruction looks at first
};
static_assert(sizeof(Inst) == 64);

inline constexpr uint32_t reserved_shared_bytes = 1024;  // at the start of the window, as on devices of today
inline constexpr uint32_t cluster_barrier = 16;          // behind the 16 barriers of a block

struct Copy {
    uint32_t from = 0, to = 0, size = 0;
};

// A call: what is copied between the frames' local memory.
struct CallSite {
    uint32_t function = 0;  // of Code::functions
    bool indirect = false;
    std::vector<Copy> arguments;  // from: caller's frame; to: callee's
    std::vector<Copy> results;    // from: callee's frame; to: caller's
};

struct FunctionCode {
    std::string name;
    uint32_t entry = 0, end = 0;
    uint32_t register_bytes = 0;
    uint32_t local_bytes = 0;
};

// A constant that depends on where a context put a variable, or on the program's function table.
struct ConstantAddress {
    uint32_t offset = 0;  // of lane 0, from the start of the constants
    bool function = false;
    uint32_t index = 0;
    int64_t addend = 0;
};

struct Code {
    std::string name;
    std::string source;
    std::vector<Inst> code;
    std::vector<int32_t> extra;
    std::vector<FunctionCode> functions;  // [0] is the kernel
    std::vector<int32_t> function_of;     // linked function -> index in `functions`, -1 when not compiled in
    std::vector<CallSite> calls;
    std::vector<std::vector<uint32_t>> tables;
    std::vector<std::byte> constants;
    std::vector<ConstantAddress> addresses;
    uint32_t static_shared_bytes = 0;
    uint32_t dynamic_shared_start = 0;  // in the shared window
    uint32_t local_bytes = 0;           // per thread: deepest chain of calls
    bool unbounded_stack = false;       // recursion, calls through pointers, alloca
    uint32_t registers = 0;             // estimate, in 32-bit registers
};

}  // namespace softgpu
