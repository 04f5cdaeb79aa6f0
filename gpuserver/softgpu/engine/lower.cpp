// Lowering: functions, operands, constants; see lower.h.
#include "engine/lower.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace softgpu {

using ptx::Symbol;

Modifiers::Modifiers(std::span<const std::string_view> list) : list_(list) {
    for (std::string_view m : list)
        if (ptx::Type t = ptx::type_of(m); t != ptx::Type::none) types_.push_back(t);
}

bool Modifiers::has(std::string_view modifier) const {
    return std::find(list_.begin(), list_.end(), modifier) != list_.end();
}

uint32_t Modifiers::vector() const {
    if (has(".v2")) return 2;
    if (has(".v4")) return 4;
    if (has(".v8")) return 8;
    return 1;
}

Lowering::Lowering(const CompiledProgram& program, uint32_t kernel_function)
    : program_(program), linked_(program.linked()), code_(std::make_unique<Code>()) {
    const ptx::LinkedFunction& kernel = linked_.functions[kernel_function];
    code_->name = kernel.function->name;
    code_->source = linked_.modules[kernel.module]->source_name;
    code_->function_of.assign(linked_.functions.size(), -1);
    function_index(kernel_function);
}

std::unique_ptr<Code> Lowering::run() {
    for (size_t next = 0; next < worklist_.size(); ++next) {
        self_ = static_cast<uint32_t>(next);
        function(worklist_[next]);
        if (has_indirect_call_ && next + 1 == worklist_.size()) {
            // A call through a pointer may reach every function whose address is taken.
            for (uint32_t f = 0; f < linked_.functions.size(); ++f)
                if (linked_.functions[f].address_taken && !linked_.functions[f].function->kernel) function_index(f);
        }
    }
    finish();
    return std::move(code_);
}

uint32_t Lowering::function_index(uint32_t linked) {
    int32_t& index = code_->function_of[linked];
    if (index < 0) {
        index = static_cast<int32_t>(worklist_.size());
        worklist_.push_back(linked);
        code_->functions.emplace_back();
        code_->functions.back().name = linked_.functions[linked].function->name;
        callees_.emplace_back();
    }
    return static_cast<uint32_t>(index);
}

void Lowering::fail(const std::string& what) const {
    const std::string& source = linked_.modules[lf_->module]->source_name;
    const int line = current_ ? current_->line : f_->line;
    throw CompileError(
        CompileError::Reason::invalid_ptx, source, line,
        source + ":" + std::to_string(line) + ": " + (current_ ? describe(*current_) + ": " : "") + what);
}

std::string Lowering::describe(const Instruction& i) const {
    std::string text = ptx::name_of(i.opcode);
    for (std::string_view m : f_->modifiers_of(i)) text += m;
    return text;
}

uint32_t Lowering::lane_bytes(Type type) {
    if (type == Type::pred) return 0;
    const uint32_t bytes = ptx::bytes_of(type);
    return bytes == 1 ? 2 : bytes;
}

// Places formal variables one after another; returns where they end.
uint32_t Lowering::lay_out(const std::vector<const ptx::Variable*>& formals, std::vector<uint32_t>& offsets) {
    uint64_t end = 0;
    for (const ptx::Variable* v : formals) {
        end = (end + v->align - 1) / v->align * v->align;
        offsets.push_back(static_cast<uint32_t>(end));
        end += v->size;
        if (end > 1U << 30)
            throw CompileError(CompileError::Reason::invalid_ptx, "", v->line,
                               "line " + std::to_string(v->line) + ": local memory of a function over 1 GiB");
    }
    return static_cast<uint32_t>(end);
}

// Formal parameters and results first (callers rely on it), then what the body declares.
void Lowering::layout_frame() {
    std::vector<const ptx::Variable*> list;
    std::vector<uint32_t> owners;
    for (uint32_t v = 0; v < f_->variables.size(); ++v) {
        const ptx::Variable& variable = f_->variables[v];
        if (f_->kernel && v < f_->parameter_count) continue;  // in the parameter buffer
        if (variable.space != ptx::Space::param && variable.space != ptx::Space::local && !variable.is_register)
            continue;
        list.push_back(&variable);
        owners.push_back(v);
    }
    std::vector<uint32_t> offsets;
    frame_bytes_ = lay_out(list, offsets);
    frame_offsets_.assign(f_->variables.size(), 0);
    for (size_t k = 0; k < owners.size(); ++k) frame_offsets_[owners[k]] = offsets[k];
    if (f_->kernel) {
        uint32_t end = 0;
        for (uint32_t v = 0; v < f_->parameter_count; ++v) {
            const ptx::Variable& variable = f_->variables[v];
            end = (end + variable.align - 1) / variable.align * variable.align;
            frame_offsets_[v] = end;
            end += static_cast<uint32_t>(variable.size);
        }
    }
}

void Lowering::function(uint32_t linked) {
    lf_ = &linked_.functions[linked];
    f_ = lf_->function;
    current_ = nullptr;
    widths_.clear();
    for (Type t : f_->registers) widths_.push_back(static_cast<uint8_t>(lane_bytes(t)));
    emitted_.clear();
    extra_.clear();
    first_of_.clear();
    branch_fixups_.clear();
    table_fixups_.clear();
    layout_frame();
    // Parameters passed in registers arrive in the frame.
    for (uint32_t v = 0; v < f_->parameter_count; ++v) {
        const ptx::Variable& variable = f_->variables[v];
        if (!variable.is_register) continue;
        const auto slot = static_cast<int32_t>(variable.register_index);
        Access x;
        x.memory_bytes = static_cast<uint8_t>(ptx::bytes_of(variable.type));
        x.register_bytes = static_cast<uint8_t>(width(slot));
        access(x, {Window::frame, nothing, 8, frame_offsets_[v]}, {&slot, 1});
    }
    for (const Instruction& i : f_->code) {
        first_of_.push_back(static_cast<uint32_t>(emitted_.size()));
        current_ = &i;
        operands_ = f_->operands(i);
        const size_t before = emitted_.size();
        instruction(i);
        for (size_t k = before; k < emitted_.size(); ++k) emitted_[k].inst.line = static_cast<uint32_t>(i.line);
        if (i.guard >= 0) {
            int32_t guard = i.guard;
            bool overwritten = false;
            for (size_t k = before; k + 1 < emitted_.size(); ++k) overwritten |= emitted_[k].inst.d == guard;
            if (overwritten) {
                // The steps after the first still go by the old value.
                Emitted copy;
                copy.inst.run = predicate_logic;
                copy.inst.kind = 4;
                copy.inst.a = guard;
                copy.inst.d = guard = temporary(0);
                copy.inst.line = static_cast<uint32_t>(i.line);
                emitted_.insert(emitted_.begin() + static_cast<std::ptrdiff_t>(before), copy);
            }
            for (size_t k = before + (overwritten ? 1 : 0); k < emitted_.size(); ++k) {
                emitted_[k].inst.guard = guard;
                emitted_[k].inst.guard_negated = i.guard_negated;
            }
        }
    }
    current_ = nullptr;
    first_of_.push_back(static_cast<uint32_t>(emitted_.size()));
    // A body without a final ret returns at its end.
    return_values();
    emit_flow(Flow::ret);

    FunctionCode& code = code_->functions[self_];
    code.entry = static_cast<uint32_t>(code_->code.size());
    code.local_bytes = (frame_bytes_ + 63) / 64 * 64;
    for (auto [at, target] : branch_fixups_) emitted_[at].inst.target = first_of_[f_->labels[target]];
    for (size_t table : table_fixups_)
        for (uint32_t& target : code_->tables[table]) target = first_of_[f_->labels[target]];
    allocate(code);
    const auto extra_base = static_cast<uint32_t>(code_->extra.size());
    code_->extra.insert(code_->extra.end(), extra_.begin(), extra_.end());
    for (Emitted& e : emitted_) {
        if (e.inst.flow == Flow::branch) e.inst.target += code.entry;
        e.inst.extra += extra_base;
        code_->code.push_back(e.inst);
    }
    for (size_t table : table_fixups_)
        for (uint32_t& target : code_->tables[table]) target += code.entry;
    code.end = static_cast<uint32_t>(code_->code.size());
}

void Lowering::instruction(const Instruction& i) {
    const Modifiers m(f_->modifiers_of(i));
    if (video_instruction(i, m)) return;
    if (control(i, m) || memory(i, m) || matrix(i, m) || arithmetic(i, m)) {
        for (size_t k = 0; k < operand_count(); ++k)
            if (!operand(k).selector.empty()) fail("a selector is for video instructions");
        return;
    }
    // Known to PTX, not to this device: a kernel that never reaches it is none the worse.
    emit(unsupported).inst.imm = static_cast<int64_t>(i.opcode);
}

Emitted& Lowering::emit(Handler run, int32_t d, int32_t a, int32_t b, int32_t c) {
    Emitted e;
    e.inst.run = run;
    e.inst.d = d;
    e.inst.a = a;
    e.inst.b = b;
    e.inst.c = c;
    e.inst.line = static_cast<uint32_t>(current_ ? current_->line : f_->line);
    if (!run) fail("no such form of the instruction");
    emitted_.push_back(e);
    return emitted_.back();
}

Emitted& Lowering::emit_flow(Flow flow, Handler run) {
    Emitted e;
    e.inst.run = run;
    e.inst.flow = flow;
    e.inst.line = static_cast<uint32_t>(current_ ? current_->line : f_->line);
    emitted_.push_back(e);
    return emitted_.back();
}

int32_t* Lowering::extras(Emitted& e, uint32_t count, uint32_t defs) {
    e.inst.extra = static_cast<uint32_t>(extra_.size());
    e.extra_count = static_cast<uint8_t>(count);
    e.extra_defs = defs;
    extra_.resize(extra_.size() + count, nothing);
    return extra_.data() + e.inst.extra;
}

int32_t Lowering::temporary(uint32_t bytes) {
    widths_.push_back(static_cast<uint8_t>(bytes));
    return static_cast<int32_t>(widths_.size() - 1);
}

int32_t Lowering::constant(uint32_t bytes, uint64_t bits, uint64_t high) {
    if (bytes < 8) bits &= (uint64_t{1} << bytes * 8) - 1;
    auto [found, inserted] = constants_.try_emplace({bytes, bits, high}, 0);
    if (inserted) {
        constant_bytes_ += bytes * lanes;
        found->second = -static_cast<int32_t>(constant_bytes_);
        constant_slots_.push_back({found->second, bytes, bits, high, {}, false});
    }
    return found->second;
}

int32_t Lowering::constant_predicate(bool value) {
    auto [found, inserted] = constants_.try_emplace({0, value, 0}, 0);
    if (inserted) {
        constant_bytes_ += 64;
        found->second = -static_cast<int32_t>(constant_bytes_);
        constant_slots_.push_back({found->second, 0, value ? all_lanes : 0, 0, {}, false});
    }
    return found->second;
}

int32_t Lowering::address_constant(uint32_t bytes, const Symbol& symbol, int64_t addend) {
    auto [found, inserted] =
        address_constants_.try_emplace({bytes, static_cast<int>(symbol.kind), symbol.index, addend}, 0);
    if (inserted) {
        constant_bytes_ += bytes * lanes;
        found->second = -static_cast<int32_t>(constant_bytes_);
        constant_slots_.push_back({found->second, bytes, static_cast<uint64_t>(addend), 0, symbol, true});
    }
    return found->second;
}

uint32_t Lowering::shared_offset(uint32_t index) {
    auto [found, inserted] = shared_offsets_.try_emplace(index, 0);
    if (inserted) {
        const ptx::Variable& v = *linked_.shared[index].variable;
        const uint64_t start = (uint64_t{shared_end_} + v.align - 1) / v.align * v.align;
        if (start + v.size > 1U << 30) fail("shared memory over 1 GiB");
        found->second = static_cast<uint32_t>(start);
        shared_end_ = static_cast<uint32_t>(start + v.size);
    }
    return found->second;
}

const ptx::Operand& Lowering::operand(size_t index) const {
    if (index >= operands_.size()) fail("operand " + std::to_string(index + 1) + " is missing");
    return operands_[index];
}

std::span<const ptx::Operand> Lowering::items(const Operand& vector) const {
    return {f_->pool.data() + vector.index, vector.count};
}

int32_t Lowering::resized(int32_t slot, uint32_t from, uint32_t to, bool sign) {
    static constexpr Type types[2][9] = {
        {Type::none, Type::u8, Type::u16, Type::none, Type::u32, Type::none, Type::none, Type::none, Type::u64},
        {Type::none, Type::s8, Type::s16, Type::none, Type::s32, Type::none, Type::none, Type::none, Type::s64}};
    if (from > 8 || to > 8 || from == 0 || to == 0) fail("operand of the wrong size");
    Shape s;
    s.op = ptx::Opcode::cvt;
    s.from = types[sign][from];
    s.type = types[sign][to];
    const int32_t result = temporary(to);
    emit(find_elementwise(s), result, slot);
    return result;
}

// The bits of a literal as an operand of `type`.
uint64_t Lowering::literal(const Operand& o, Type type) const {
    if (o.kind == Operand::Kind::integer) {
        if (type == Type::f32 || type == Type::tf32) return std::bit_cast<uint32_t>(static_cast<float>(o.value));
        if (type == Type::f64) return std::bit_cast<uint64_t>(static_cast<double>(o.value));
        return static_cast<uint64_t>(o.value);
    }
    const auto bits = static_cast<uint64_t>(o.value);
    if (ptx::bytes_of(type) == 8) {
        if (!o.single) return bits;
        return std::bit_cast<uint64_t>(static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits))));
    }
    if (o.single) return bits;
    if (type == Type::f32 || ptx::bytes_of(type) == 4)
        return std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(bits)));
    fail("no floating literal fits this operand");
}

int32_t Lowering::read(const Operand& o, Type type) {
    const uint32_t bytes = lane_bytes(type);
    switch (o.kind) {
        case Operand::Kind::reg: {
            const auto slot = static_cast<int32_t>(o.index);
            if (bytes == 0 || width(slot) == 0) {
                if (bytes == width(slot) && !o.negated) return slot;
                fail(bytes == 0 ? "expected a predicate" : "a predicate cannot be used here");
            }
            return width(slot) == bytes ? slot : resized(slot, width(slot), bytes, ptx::is_signed(type));
        }
        case Operand::Kind::integer:
        case Operand::Kind::real:
            if (bytes == 0) return constant_predicate(o.value != 0);
            return constant(bytes, literal(o, type), bytes == 16 && o.value < 0 ? ~uint64_t{0} : 0);
        case Operand::Kind::special: {
            if (bytes != 4 && bytes != 8) {
                if (bytes != 2) fail("a special register does not fit this operand");
                Operand copy = o;
                return resized(read(copy, Type::u32), 4, 2, false);
            }
            const int32_t t = temporary(bytes);
            Emitted& e = emit(find_special(bytes), t);
            e.inst.kind = static_cast<uint8_t>(o.index);
            e.inst.imm = o.count;
            return t;
        }
        case Operand::Kind::variable:
        case Operand::Kind::symbol:
            if (bytes != 4 && bytes != 8) fail("an address does not fit this operand");
            return read_address(o, bytes);
        case Operand::Kind::sink:
            fail("'_' cannot be read");
        default:
            fail("unexpected kind of operand");
    }
}

// The address of a variable or function, in its state space.
int32_t Lowering::read_address(const Operand& o, uint32_t bytes) {
    Symbol symbol;
    if (o.kind == Operand::Kind::variable) {
        const ptx::Variable& v = f_->variables[o.index];
        if (v.is_register) fail("a register has no address");
        symbol = lf_->variables[o.index];
        if (symbol.kind == Symbol::Kind::unresolved) {
            const int32_t t = temporary(bytes);
            const bool parameter = f_->kernel && o.index < f_->parameter_count;
            if (parameter && bytes != 8) fail("the address of a parameter has 64 bits");
            Emitted& e = emit(parameter ? parameter_address : frame_address, t);
            e.inst.imm = frame_offsets_[o.index] + o.value;
            e.inst.kind = static_cast<uint8_t>(bytes);
            return t;
        }
    } else {
        symbol = lf_->symbols[o.index];
    }
    switch (symbol.kind) {
        case Symbol::Kind::shared:
            return constant(bytes, shared_offset(symbol.index) + static_cast<uint64_t>(o.value));
        case Symbol::Kind::dynamic_shared: {
            const ptx::Variable* v = nullptr;
            if (o.kind == Operand::Kind::variable) {
                v = &f_->variables[o.index];
            } else {
                const ptx::Module& module = *linked_.modules[lf_->module];
                if (auto found = module.variable_index.find(f_->symbols[o.index]); found != module.variable_index.end())
                    v = &module.variables[found->second];
            }
            if (v) shared_align_ = std::max(shared_align_, v->align);
            return address_constant(bytes, symbol, o.value);
        }
        case Symbol::Kind::memory:
        case Symbol::Kind::function:
            if (bytes != 8) fail("this address has 64 bits");
            return address_constant(bytes, symbol, o.value);
        default:
            fail("'" + std::string(o.kind == Operand::Kind::symbol ? f_->symbols[o.index] : "?") + "' has no address");
    }
}

Lowering::Predicate Lowering::read_predicate(const Operand& o) {
    if (o.kind == Operand::Kind::reg) {
        const auto slot = static_cast<int32_t>(o.index);
        if (width(slot) != 0) fail("expected a predicate");
        return {slot, o.negated};
    }
    if (o.kind == Operand::Kind::integer) return {constant_predicate(o.value != 0), false};
    fail("expected a predicate");
}

int32_t Lowering::plain_predicate(const Operand& o) {
    const Predicate p = read_predicate(o);
    if (!p.negated) return p.slot;
    const int32_t t = temporary(0);
    emit(predicate_logic, t, p.slot).inst.kind = 3;
    return t;
}

int32_t Lowering::write(const Operand& o, Type type) {
    if (o.kind == Operand::Kind::sink) return temporary(lane_bytes(type));
    if (o.kind != Operand::Kind::reg) fail("the destination must be a register");
    const auto slot = static_cast<int32_t>(o.index);
    const uint32_t bytes = lane_bytes(type);
    if (width(slot) != bytes) fail("the destination must be a register of " + std::to_string(bytes * 8) + " bits");
    return slot;
}

int32_t Lowering::write_any(const Operand& o) {
    if (o.kind == Operand::Kind::sink) return nothing;
    if (o.kind != Operand::Kind::reg) fail("the destination must be a register");
    return static_cast<int32_t>(o.index);
}

int32_t Lowering::write_predicate(const Operand& o) {
    const int32_t slot = write_any(o);
    if (slot != nothing && width(slot) != 0) fail("the destination must be a predicate");
    return slot;
}

// Constants get their final places, the stack its depth.
void Lowering::finish() {
    code_->static_shared_bytes = shared_end_ - reserved_shared_bytes;
    const uint64_t dynamic = (uint64_t{shared_end_} + shared_align_ - 1) / shared_align_ * shared_align_;
    code_->dynamic_shared_start = static_cast<uint32_t>(dynamic);

    code_->constants.resize((constant_bytes_ + 63) / 64 * 64);
    std::byte* end = code_->constants.data() + code_->constants.size();
    for (const Slot& s : constant_slots_) {
        std::byte* at = end + s.operand;
        uint64_t low = s.low, high = s.high;
        if (s.address) {
            if (s.symbol.kind == Symbol::Kind::dynamic_shared) {
                low += dynamic;
            } else {
                code_->addresses.push_back({static_cast<uint32_t>(at - code_->constants.data()),
                                            s.symbol.kind == Symbol::Kind::function, s.symbol.index,
                                            static_cast<int64_t>(s.low)});
            }
        }
        if (s.bytes == 0) {
            std::memcpy(at, &low, 4);
        } else {
            for (uint32_t l = 0; l < lanes; ++l) {
                std::memcpy(at + l * s.bytes, &low, std::min(s.bytes, 8U));
                if (s.bytes == 16) std::memcpy(at + l * 16 + 8, &high, 8);
            }
        }
    }

    // Deepest chain of calls; a cycle has none.
    const size_t count = code_->functions.size();
    std::vector<uint8_t> state(count, 0);  // 1 on the way, 2 done
    std::vector<uint64_t> depth(count, 0);
    bool cycle = false;
    std::vector<std::pair<uint32_t, size_t>> stack;
    for (uint32_t root = 0; root < count; ++root) {
        if (state[root]) continue;
        stack.push_back({root, 0});
        state[root] = 1;
        while (!stack.empty()) {
            auto& [f, next] = stack.back();
            if (next < callees_[f].size()) {
                const uint32_t callee = callees_[f][next++];
                if (state[callee] == 1)
                    cycle = true;
                else if (state[callee] == 0) {
                    state[callee] = 1;
                    stack.push_back({callee, 0});
                }
                continue;
            }
            uint64_t deepest = 0;
            for (uint32_t callee : callees_[f])
                if (state[callee] == 2) deepest = std::max(deepest, depth[callee]);
            depth[f] = deepest + code_->functions[f].local_bytes;
            state[f] = 2;
            stack.pop_back();
        }
    }
    code_->unbounded_stack |= cycle || has_indirect_call_;
    code_->local_bytes = static_cast<uint32_t>(std::min<uint64_t>(depth[0], 1U << 30));
    uint32_t most = 0;
    for (const FunctionCode& f : code_->functions) most = std::max(most, f.register_bytes / 128);
    code_->registers = std::clamp<uint32_t>(most + 8, 16, 255);
}

}  // namespace softgpu
