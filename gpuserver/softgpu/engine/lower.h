// Compiles one kernel, with every function it may call, to the internal form.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/code.h"
#include "engine/handlers.h"
#include "engine/program.h"
#include "engine/shape.h"

namespace softgpu {

// What an emitted instruction does to its operands, for the register allocation.
struct Emitted {
    Inst inst;
    uint8_t extra_count = 0;
    uint32_t extra_defs = 0;  // bit k: extra operand k is written, else read
    bool apart = false;       // results may not share a slot with operands
};

// The modifiers of an instruction.
class Modifiers {
  public:
    explicit Modifiers(std::span<const std::string_view> list);
    [[nodiscard]] bool has(std::string_view modifier) const;
    [[nodiscard]] const std::vector<ptx::Type>& types() const { return types_; }
    [[nodiscard]] ptx::Type type() const { return types_.empty() ? ptx::Type::none : types_.back(); }
    [[nodiscard]] std::span<const std::string_view> list() const { return list_; }
    // .v2 .v4 .v8, else 1
    [[nodiscard]] uint32_t vector() const;

  private:
    std::span<const std::string_view> list_;
    std::vector<ptx::Type> types_;
};

class Lowering {
  public:
    Lowering(const CompiledProgram& program, uint32_t kernel_function);
    std::unique_ptr<Code> run();

  private:
    using Operand = ptx::Operand;
    using Instruction = ptx::Instruction;
    using Type = ptx::Type;
    struct Predicate {
        int32_t slot;
        bool negated;
    };

    // --- lower.cpp: functions, operands, constants
    uint32_t function_index(uint32_t linked);
    void function(uint32_t linked);
    void instruction(const Instruction& i);
    void finish();
    [[noreturn]] void fail(const std::string& what) const;
    [[nodiscard]] std::string describe(const Instruction& i) const;
    Emitted& emit(Handler run, int32_t d = nothing, int32_t a = nothing, int32_t b = nothing, int32_t c = nothing);
    Emitted& emit_flow(Flow flow, Handler run = nullptr);
    int32_t* extras(Emitted& e, uint32_t count, uint32_t defs);
    int32_t temporary(uint32_t bytes);  // 0: predicate
    int32_t constant(uint32_t bytes, uint64_t bits, uint64_t high = 0);
    int32_t constant_predicate(bool value);
    int32_t address_constant(uint32_t bytes, const ptx::Symbol& symbol, int64_t addend);
    [[nodiscard]] uint32_t width(int32_t slot) const { return slot < 0 ? 0 : widths_[static_cast<size_t>(slot)]; }
    [[nodiscard]] static uint32_t lane_bytes(Type type);
    int32_t read(const Operand& o, Type type);
    int32_t read_address(const Operand& o, uint32_t bytes);
    Predicate read_predicate(const Operand& o);
    int32_t plain_predicate(const Operand& o);
    int32_t write(const Operand& o, Type type);
    int32_t write_any(const Operand& o);  // whatever its width
    int32_t write_predicate(const Operand& o);
    int32_t resized(int32_t slot, uint32_t from, uint32_t to, bool sign);
    uint64_t literal(const Operand& o, Type type) const;
    std::span<const Operand> items(const Operand& vector) const;
    const Operand& operand(size_t index) const;
    [[nodiscard]] size_t operand_count() const { return operands_.size(); }
    uint32_t shared_offset(uint32_t shared_variable);
    void layout_frame();
    static uint32_t lay_out(const std::vector<const ptx::Variable*>& formals, std::vector<uint32_t>& offsets);

    // --- lower_arithmetic.cpp
    bool arithmetic(const Instruction& i, const Modifiers& m);
    Shape shape_of(const Instruction& i, const Modifiers& m) const;
    Handler handler_of(const Shape& s) const;
    void elementwise(const Instruction& i, const Modifiers& m);
    void mixed_precision(const Instruction& i, const Modifiers& m);
    void carry_chain(const Instruction& i, const Modifiers& m);
    struct Combination {
        uint8_t how;    // 0: not; 1 and, 2 or, 3 xor; + 4: with what c is not
        int32_t other;  // c, or nothing
    };
    Combination compare_and_combine(Shape& s, const Modifiers& m);
    std::array<std::array<int32_t, 2>, 2> unpack_halves();
    void comparison(const Instruction& i, const Modifiers& m);
    void set(const Instruction& i, const Modifiers& m);
    void conversion(const Instruction& i, const Modifiers& m);
    void integer_conversion(const Modifiers& m, Type to, Type from);
    void move(const Instruction& i, const Modifiers& m);
    void select(const Instruction& i, const Modifiers& m);
    void dot_product(const Instruction& i, const Modifiers& m);
    bool video_instruction(const Instruction& i, const Modifiers& m);  // video.cpp

    // --- lower_memory.cpp
    bool memory(const Instruction& i, const Modifiers& m);
    struct Address {
        Window window = Window::generic;
        int32_t slot = nothing;
        uint32_t bytes = 8;
        int64_t offset = 0;
    };
    Address address(const Operand& o, ptx::Space space);
    static ptx::Space space_of(const Modifiers& m);
    int32_t generic_address(const Operand& o, ptx::Space space);
    void load_store(const Instruction& i, const Modifiers& m);
    void access(Access x, const Address& at, std::span<const int32_t> values);
    void atomic(const Instruction& i, const Modifiers& m);
    void address_conversion(const Instruction& i, const Modifiers& m);
    int32_t resized_if_needed(int32_t slot);
    static Handler find_narrowing();
    void mbarrier_instruction(const Modifiers& m);
    void async_copy(const Instruction& i, const Modifiers& m);

    // --- lower_texture.cpp
    bool texture(const Instruction& i, const Modifiers& m);
    int32_t texture_handle(const Operand& base, bool& by_reference);

    // --- lower_control.cpp
    bool control(const Instruction& i, const Modifiers& m);
    void branch(const Instruction& i);
    void call(const Instruction& i);
    void return_values();
    void barrier(const Instruction& i, const Modifiers& m);
    void collective(const Instruction& i, const Modifiers& m);
    uint32_t label(const Operand& o) const;

    // --- lower_matrix.cpp
    bool matrix(const Instruction& i, const Modifiers& m);
    bool matrix_product(const Modifiers& m);
    bool matrix_move(const Modifiers& m, bool load);
    std::span<const Operand> registers_of(const Operand& o) const;

    // --- allocate.cpp
    void allocate(FunctionCode& code);

    const CompiledProgram& program_;
    const ptx::Linked& linked_;
    std::unique_ptr<Code> code_;
    std::vector<uint32_t> worklist_;  // linked functions, in the order of Code::functions

    // Constants: key is (bytes, low, high); the value is the operand. Addresses have a list of their own.
    std::map<std::tuple<uint32_t, uint64_t, uint64_t>, int32_t> constants_;
    std::map<std::tuple<uint32_t, int, uint32_t, int64_t>, int32_t> address_constants_;
    struct Slot {
        int32_t operand;
        uint32_t bytes;  // of a lane; 0: predicate
        uint64_t low, high;
        ptx::Symbol symbol;  // of an address
        bool address;
    };
    std::vector<Slot> constant_slots_;
    uint32_t constant_bytes_ = 0;
    std::unordered_map<uint32_t, uint32_t> shared_offsets_;
    uint32_t shared_end_ = reserved_shared_bytes;
    uint32_t shared_align_ = 16;

    // Calls between compiled functions, for the depth of the stack.
    std::vector<std::vector<uint32_t>> callees_;
    bool has_indirect_call_ = false;

    // State of the function at hand.
    const ptx::LinkedFunction* lf_ = nullptr;
    const ptx::Function* f_ = nullptr;
    uint32_t self_ = 0;  // of Code::functions
    std::vector<uint8_t> widths_;
    std::vector<Emitted> emitted_;
    std::vector<int32_t> extra_;
    std::vector<uint32_t> frame_offsets_;
    uint32_t frame_bytes_ = 0;
    std::vector<uint32_t> first_of_;  // emitted index of each parsed instruction
    std::vector<size_t> table_fixups_;
    std::vector<std::pair<size_t, uint32_t>> branch_fixups_;
    const Instruction* current_ = nullptr;
    std::span<const Operand> operands_;
    uint8_t next_cache_ = 0;
};

}  // namespace softgpu
