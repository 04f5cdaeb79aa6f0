// The parsed form of one PTX text (PTX ISA 9): what the parser makes and the linker and the lowering read.
//
// Names inside a function body are already resolved to indices; what is left by name refers to module scope and is
// resolved by the linker. Views point into `Module::text`.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ptx/opcode.h"

namespace softgpu::ptx {

enum class Type : uint8_t {
    none,
    pred,
    b8,
    u8,
    s8,
    b16,
    u16,
    s16,
    f16,
    bf16,
    b32,
    u32,
    s32,
    f32,
    f16x2,
    bf16x2,
    tf32,
    u16x2,
    s16x2,
    b64,
    u64,
    s64,
    f64,
    f32x2,
    b128,
    // Narrow formats that only `cvt` knows; held in integer registers.
    e4m3,
    e5m2,
    e4m3x2,
    e5m2x2,
    e2m1x2,
    e2m3x2,
    e3m2x2,
    ue8m0x2,
    other,  // texture, sampler and surface references and matrix types
};

// Type of a `.type` modifier (with the dot); Type::none when it names no type.
Type type_of(std::string_view modifier);
const char* name_of(Type type);
uint32_t bytes_of(Type type);
bool is_signed(Type type);
bool is_float(Type type);

enum class Space : uint8_t { generic, reg, global, constant, local, shared, param };

enum class Linkage : uint8_t { internal, visible, external, weak, common };

// An address inside an initial value.
struct Relocation {
    uint64_t offset = 0;    // where in the variable
    uint32_t size = 8;      // bytes written there
    std::string_view name;  // of a variable or function at module scope
    int64_t addend = 0;
    uint32_t shift = 0;  // for 0xFF00(name): the address is shifted right by this
    int line = 0;
};

struct Variable {
    std::string_view name;
    Space space = Space::global;
    Type type = Type::b8;
    Linkage linkage = Linkage::internal;
    uint32_t align = 1;
    uint64_t size = 0;  // bytes; 0 for an array of unknown length (dynamic shared memory)
    bool managed = false;
    bool is_register = false;  // a formal .reg parameter of a .func
    uint32_t register_index = 0;
    std::vector<uint8_t> initial;  // may be shorter than size: the rest is zero
    std::vector<Relocation> relocations;
    int line = 0;
};

struct Operand {
    enum class Kind : uint8_t {
        reg,       // index: register
        integer,   // value
        real,      // value: bits of a double, or of a float when `single`
        variable,  // index: of the function's variables; value: addend
        symbol,    // index: into Function::symbols; value: addend
        label,     // index: into Function::labels
        vector,    // index, count: operands of the pool
        address,   // [base + value]; index, count: one operand of the pool (the base), count 0 for an absolute address
        special,   // index: Special, component in count
        sink,      // _
        other,     // brackets of tensor and texture instructions; index, count: what they hold, in the pool
    };
    Kind kind = Kind::sink;
    bool negated = false;  // !%p
    bool single = false;   // real: written as 0f........
    uint32_t index = 0;
    uint32_t count = 0;
    int64_t value = 0;
    static constexpr int32_t no_second = -1, sink_second = -2;
    int32_t second = no_second;  // the register q of p|q
    std::string_view selector;   // of a register of a video instruction: .h10, .b7654
};

struct Instruction {
    Opcode opcode = Opcode::add;
    uint8_t modifier_count = 0;
    uint8_t operand_count = 0;
    bool guard_negated = false;
    int32_t guard = -1;  // predicate register
    uint32_t first_modifier = 0;
    uint32_t first_operand = 0;
    int line = 0;
};

struct Prototype {
    std::string_view name;
    std::vector<Variable> returns, parameters;
};

struct Module;

struct Function {
    std::string_view name;
    bool kernel = false;
    bool defined = false;
    Linkage linkage = Linkage::internal;
    int line = 0;
    // Formal parameters are variables [0, parameter_count), returned values follow, then what the body declares.
    std::vector<Variable> variables;
    uint32_t parameter_count = 0;
    uint32_t return_count = 0;
    std::vector<Type> registers;
    std::vector<Instruction> code;
    std::vector<Operand> pool;
    std::vector<std::string_view> modifiers;
    std::vector<std::string_view> symbols;
    std::vector<uint32_t> labels;                       // instruction index of each label
    std::vector<std::vector<uint32_t>> branch_targets;  // label indices, in order
    std::vector<Prototype> prototypes;
    std::array<uint32_t, 3> max_threads{0, 0, 0}, required_threads{0, 0, 0}, required_cluster{0, 0, 0};
    uint32_t max_registers = 0;  // .maxnreg; 0 when absent

    [[nodiscard]] std::span<const Operand> operands(const Instruction& i) const {
        return {pool.data() + i.first_operand, i.operand_count};
    }
    [[nodiscard]] std::span<const std::string_view> modifiers_of(const Instruction& i) const {
        return {modifiers.data() + i.first_modifier, i.modifier_count};
    }
};

struct Module {
    std::string source_name;
    std::string text;
    int version = 0;             // 90 for 9.0
    int target = 0;              // 75 for sm_75
    uint32_t max_registers = 0;  // of every kernel of this text, as the program asked; 0: as many as it takes
    std::vector<Variable> variables;
    std::vector<std::unique_ptr<Function>> functions;
    std::unordered_map<std::string_view, uint32_t> variable_index, function_index;
    std::unordered_map<std::string_view, std::string_view> aliases;
};

}  // namespace softgpu::ptx
