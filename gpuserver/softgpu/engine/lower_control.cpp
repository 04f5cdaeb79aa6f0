// Lowering of branches, calls, barriers, warp-wide instructions and fences.
#include <algorithm>

#include "engine/lower.h"

namespace softgpu {

using ptx::Opcode;
using ptx::Symbol;

uint32_t Lowering::label(const Operand& o) const {
    if (o.kind != Operand::Kind::label) fail("expected a label");
    return o.index;
}

void Lowering::branch(const Instruction& i) {
    if (i.opcode == Opcode::bra) {
        const uint32_t target = label(operand(0));
        if (target >= f_->labels.size()) fail("expected a label");
        branch_fixups_.emplace_back(emitted_.size(), target);
        emit_flow(Flow::branch);
        return;
    }
    const int32_t index = read(operand(0), Type::u32);
    const uint32_t list = label(operand(1));
    if (list >= f_->branch_targets.size()) fail("expected a list of branch targets");
    Emitted& e = emit_flow(Flow::branch_table);
    e.inst.a = index;
    e.inst.target = static_cast<uint32_t>(code_->tables.size());
    table_fixups_.push_back(code_->tables.size());
    code_->tables.push_back(f_->branch_targets[list]);
}

// Results passed in registers go to the frame, where the caller finds them.
void Lowering::return_values() {
    for (uint32_t r = 0; r < f_->return_count; ++r) {
        const uint32_t v = f_->parameter_count + r;
        const ptx::Variable& variable = f_->variables[v];
        if (!variable.is_register) continue;
        const auto slot = static_cast<int32_t>(variable.register_index);
        Access x;
        x.store = true;
        x.memory_bytes = static_cast<uint8_t>(ptx::bytes_of(variable.type));
        x.register_bytes = static_cast<uint8_t>(width(slot));
        access(x, {Window::frame, nothing, 8, frame_offsets_[v]}, {&slot, 1});
    }
}

void Lowering::call(const Instruction& i) {
    (void)i;
    const Operand& returned = operand(0);
    const Operand& target = operand(1);
    const Operand& arguments = operand(2);
    // What the callee expects.
    std::vector<const ptx::Variable*> formals;
    uint32_t parameter_count = 0;
    CallSite site;
    Symbol symbol;
    bool indirect = false;
    auto signature = [&](const std::vector<ptx::Variable>& parameters, const std::vector<ptx::Variable>& returns) {
        for (const ptx::Variable& v : parameters) formals.push_back(&v);
        for (const ptx::Variable& v : returns) formals.push_back(&v);
        parameter_count = static_cast<uint32_t>(parameters.size());
    };
    auto signature_of = [&](const ptx::Function& f) {
        for (uint32_t v = 0; v < f.parameter_count + f.return_count; ++v) formals.push_back(&f.variables[v]);
        parameter_count = f.parameter_count;
    };
    if (target.kind == Operand::Kind::symbol) {
        symbol = lf_->symbols[target.index];
        if (symbol.kind == Symbol::Kind::function) {
            signature_of(*linked_.functions[symbol.index].function);
        } else if (symbol.kind == Symbol::Kind::builtin) {
            const ptx::Module& module = *linked_.modules[lf_->module];
            signature_of(*module.functions[module.function_index.at(f_->symbols[target.index])]);
        } else {
            fail("'" + std::string(f_->symbols[target.index]) + "' is no function");
        }
    } else if (target.kind == Operand::Kind::reg) {
        indirect = true;
        if (operand_count() > 3) {
            const uint32_t prototype = label(operand(3));
            if (prototype >= f_->prototypes.size()) fail("expected a prototype");
            signature(f_->prototypes[prototype].parameters, f_->prototypes[prototype].returns);
        }
    } else {
        fail("expected a function");
    }
    const auto given = items(arguments);
    auto results = items(returned);
    // A definition in another unit may return nothing where this unit declares that it returns something (numba's C
    // functions do). Linkers look at names alone; what is not returned has no value.
    const bool elsewhere =
        symbol.kind == Symbol::Kind::function && linked_.functions[symbol.index].module != lf_->module;
    if (elsewhere && formals.size() == parameter_count) results = {};
    if (formals.size() != given.size() + results.size() || parameter_count != given.size())
        fail("the function takes " + std::to_string(parameter_count) + " arguments and returns " +
             std::to_string(formals.size() - parameter_count) + " values");
    std::vector<uint32_t> offsets;
    lay_out(formals, offsets);
    // Values in registers pass through places of their own in the frame.
    auto place = [&](uint32_t bytes) {
        frame_bytes_ = (frame_bytes_ + 15) / 16 * 16;
        const uint32_t at = frame_bytes_;
        frame_bytes_ += bytes;
        return at;
    };
    auto frame_variable = [&](const Operand& o) -> const ptx::Variable* {
        if (o.kind != Operand::Kind::variable) return nullptr;
        const ptx::Variable& v = f_->variables[o.index];
        return v.space == ptx::Space::param && !(f_->kernel && o.index < f_->parameter_count) ? &v : nullptr;
    };
    for (size_t k = 0; k < given.size(); ++k) {
        const ptx::Variable& formal = *formals[k];
        const auto size = static_cast<uint32_t>(formal.size);
        uint32_t from;
        if (const ptx::Variable* v = frame_variable(given[k])) {
            if (v->size < size) fail("argument " + std::to_string(k + 1) + " is too small");
            from = frame_offsets_[given[k].index] + static_cast<uint32_t>(given[k].value);
        } else {
            const int32_t slot = read(given[k], formal.type);
            from = place(size);
            Access x;
            x.store = true;
            x.memory_bytes = static_cast<uint8_t>(ptx::bytes_of(formal.type));
            x.register_bytes = static_cast<uint8_t>(lane_bytes(formal.type));
            access(x, {Window::frame, nothing, 8, from}, {&slot, 1});
        }
        if (size) site.arguments.push_back({from, offsets[k], size});
    }
    struct Later {
        uint32_t at;
        const Operand* to;
        const ptx::Variable* formal;
    };
    std::vector<Later> later;
    for (size_t k = 0; k < results.size(); ++k) {
        const ptx::Variable& formal = *formals[given.size() + k];
        auto size = static_cast<uint32_t>(formal.size);
        const uint32_t from = offsets[given.size() + k];
        uint32_t to;
        if (const ptx::Variable* v = frame_variable(results[k])) {
            size = static_cast<uint32_t>(std::min<uint64_t>(size, v->size));
            to = frame_offsets_[results[k].index];
        } else {
            to = place(size);
            later.push_back({to, &results[k], &formal});
        }
        if (size) site.results.push_back({from, to, size});
    }
    const auto number = static_cast<uint32_t>(code_->calls.size());
    if (symbol.kind == Symbol::Kind::builtin) {
        code_->calls.push_back(std::move(site));
        emit(find_builtin(static_cast<ptx::Builtin>(symbol.index))).inst.target = number;
    } else if (indirect) {
        site.indirect = true;
        has_indirect_call_ = true;
        code_->calls.push_back(std::move(site));
        const int32_t pointer = read(target, Type::u64);
        Emitted& e = emit_flow(Flow::call_indirect);
        e.inst.a = pointer;
        e.inst.target = number;
    } else {
        site.function = function_index(symbol.index);
        callees_[self_].push_back(site.function);
        code_->calls.push_back(std::move(site));
        emit_flow(Flow::call).inst.target = number;
    }
    for (const Later& l : later) {
        const int32_t slot = write(*l.to, l.formal->type);
        Access x;
        x.memory_bytes = static_cast<uint8_t>(ptx::bytes_of(l.formal->type));
        x.register_bytes = static_cast<uint8_t>(lane_bytes(l.formal->type));
        access(x, {Window::frame, nothing, 8, l.at}, {&slot, 1});
    }
}

void Lowering::barrier(const Instruction& i, const Modifiers& m) {
    (void)i;
    if (m.has(".warp")) {
        const int32_t members = read(operand(0), Type::b32);
        emit_flow(Flow::warp_barrier).inst.a = members;
        return;
    }
    if (m.has(".cluster")) {
        // One block a cluster: the wait is a barrier of the block, the arrival needs nothing.
        if (m.has(".arrive")) {
            emit(fence).inst.kind = static_cast<uint8_t>(Ordering::release);
            return;
        }
        emit_flow(Flow::barrier).inst.a = constant(4, cluster_barrier);
        return;
    }
    BarrierKind kind = BarrierKind::sync;
    if (m.has(".arrive")) kind = BarrierKind::arrive;
    const bool reduce = m.has(".red");
    if (reduce)
        kind = m.has(".popc") ? BarrierKind::red_popc : m.has(".and") ? BarrierKind::red_and : BarrierKind::red_or;
    size_t next = reduce ? 1 : 0;
    const Operand& first = operand(next++);
    if (first.kind == Operand::Kind::integer && (first.value < 0 || first.value > 15))
        fail("barriers are numbered 0 to 15");
    const int32_t number = read(first, Type::u32);
    int32_t count = nothing;
    const size_t remaining = operand_count() - next;
    if (remaining > (reduce ? 1U : 0U)) count = read(operand(next++), Type::u32);
    if (kind == BarrierKind::arrive && count == nothing) fail("the number of threads is missing");
    Predicate p{nothing, false};
    int32_t d = nothing;
    if (reduce) {
        p = read_predicate(operand(next));
        d = kind == BarrierKind::red_popc ? write(operand(0), Type::u32) : write_predicate(operand(0));
        if (d == nothing) d = temporary(0);
    }
    Emitted& e = emit_flow(Flow::barrier);
    e.inst.a = number;
    e.inst.b = count;
    e.inst.c = p.slot;
    e.inst.imm = p.negated;
    e.inst.d = d;
    e.inst.kind = static_cast<uint8_t>(kind);
    e.apart = true;
}

void Lowering::collective(const Instruction& i, const Modifiers& m) {
    const bool sync = m.has(".sync");
    // Without .sync the lanes that are here take part.
    auto finish = [&](Emitted& e, int32_t members, int32_t second) {
        e.apart = true;
        if (sync) e.inst.flow = Flow::collective;
        int32_t* x = extras(e, 2, 2);
        x[0] = members;
        x[1] = second;
    };
    auto members_at = [&](size_t index) { return sync ? read(operand(index), Type::b32) : constant(4, all_lanes); };
    const int32_t second = !operands_.empty() && operand(0).second >= 0 ? operand(0).second : nothing;
    switch (i.opcode) {
        case Opcode::shfl: {
            const int32_t a = read(operand(1), Type::b32), b = read(operand(2), Type::b32),
                          c = read(operand(3), Type::b32);
            const int32_t members = members_at(4);
            Emitted& e = emit(shuffle, write(operand(0), Type::b32), a, b, c);
            e.inst.kind = m.has(".up") ? 0 : m.has(".down") ? 1 : m.has(".bfly") ? 2 : 3;
            finish(e, members, second);
            return;
        }
        case Opcode::vote: {
            const Predicate p = read_predicate(operand(1));
            const int32_t members = members_at(2);
            const bool ballot = m.has(".ballot");
            int32_t d = ballot ? write(operand(0), Type::b32) : write_predicate(operand(0));
            if (d == nothing) d = temporary(0);
            Emitted& e = emit(vote, d, p.slot);
            e.inst.kind = static_cast<uint8_t>((ballot          ? 3
                                                : m.has(".all") ? 0
                                                : m.has(".any") ? 1
                                                                : 2) |
                                               (p.negated ? 4 : 0));
            finish(e, members, nothing);
            return;
        }
        case Opcode::match: {
            const int32_t a = read(operand(1), m.type());
            const int32_t members = members_at(2);
            Emitted& e = emit(find_match(m.has(".all"), lane_bytes(m.type())), write(operand(0), Type::b32), a);
            finish(e, members, second);
            return;
        }
        case Opcode::redux: {
            const Type type = m.type();
            Reduction r;
            if (m.has(".and"))
                r = Reduction::and_b32;
            else if (m.has(".or"))
                r = Reduction::or_b32;
            else if (m.has(".xor"))
                r = Reduction::xor_b32;
            else if (m.has(".add"))
                r = Reduction::add_u32;
            else if (type == Type::f32)
                r = m.has(".min") ? Reduction::min_f32 : Reduction::max_f32;
            else if (type == Type::s32)
                r = m.has(".min") ? Reduction::min_s32 : Reduction::max_s32;
            else
                r = m.has(".min") ? Reduction::min_u32 : Reduction::max_u32;
            const int32_t a = read(operand(1), type);
            const int32_t members = members_at(2);
            Emitted& e = emit(reduce, write(operand(0), type), a);
            e.inst.kind = static_cast<uint8_t>(r);
            e.inst.imm = (m.has(".abs") ? 1 : 0) | (m.has(".NaN") ? 2 : 0);
            finish(e, members, nothing);
            return;
        }
        case Opcode::elect: {
            const int32_t members = members_at(1);
            const int32_t d = operand(0).kind == Operand::Kind::sink ? temporary(4) : write(operand(0), Type::b32);
            Emitted& e = emit(elect, d);
            finish(e, members, second);
            return;
        }
        default: {
            emit(active_mask, write(operand(0), Type::b32));
            return;
        }
    }
}

bool Lowering::control(const Instruction& i, const Modifiers& m) {
    switch (i.opcode) {
        case Opcode::bra:
        case Opcode::brx:
            branch(i);
            return true;
        case Opcode::call:
            call(i);
            return true;
        case Opcode::ret:
            return_values();
            emit_flow(Flow::ret);
            return true;
        case Opcode::exit:
            emit_flow(Flow::exit);
            return true;
        case Opcode::bar:
        case Opcode::barrier:
            barrier(i, m);
            return true;
        case Opcode::shfl:
        case Opcode::vote:
        case Opcode::match:
        case Opcode::redux:
        case Opcode::elect:
        case Opcode::activemask:
            collective(i, m);
            return true;
        case Opcode::membar:
        case Opcode::fence:
            emit(fence).inst.kind = 4;
            return true;
        case Opcode::trap:
        case Opcode::brkpt:
            emit(trap);
            return true;
        case Opcode::nanosleep: {
            const int32_t time = read(operand(0), Type::u32);
            Emitted& e = emit_flow(Flow::sleep, nanosleep);
            e.inst.a = time;
            return true;
        }
        case Opcode::pmevent:
        case Opcode::setmaxnreg:
        case Opcode::griddepcontrol:
            emit(no_operation);
            return true;
        default:
            return false;
    }
}

}  // namespace softgpu
