// Lowering of loads, stores, atomics, addresses and asynchronous copies.
#include <algorithm>

#include "engine/lower.h"

namespace softgpu {

using ptx::Opcode;
using ptx::Space;
using ptx::Symbol;

ptx::Space Lowering::space_of(const Modifiers& m) {
    for (std::string_view word : m.list()) {
        if (word == ".global") return Space::global;
        if (word == ".const") return Space::constant;
        if (word == ".local") return Space::local;
        if (word == ".shared" || word == ".shared::cta" || word == ".shared::cluster") return Space::shared;
        if (word == ".param" || word == ".param::entry" || word == ".param::func") return Space::param;
    }
    return Space::generic;
}

// Where [base + offset] is, in a state space.
Lowering::Address Lowering::address(const Operand& o, Space space) {
    if (o.kind != Operand::Kind::address) fail("expected an address in brackets");
    Address at;
    at.offset = o.value;
    if (o.count == 0) {
        at.slot = constant(8, static_cast<uint64_t>(o.value));
        at.offset = 0;
        at.window = space == Space::shared ? Window::shared : space == Space::local ? Window::local : Window::generic;
        return at;
    }
    const Operand& base = f_->pool[o.index];
    if (base.kind == Operand::Kind::variable) {
        const ptx::Variable& v = f_->variables[base.index];
        const Symbol symbol = lf_->variables[base.index];
        if (v.is_register) {
            at.slot = static_cast<int32_t>(v.register_index);
            at.bytes = width(at.slot);
        } else if (symbol.kind == Symbol::Kind::unresolved) {
            const bool parameter = f_->kernel && base.index < f_->parameter_count;
            at.window = parameter ? Window::parameter : Window::frame;
            at.offset += frame_offsets_[base.index] + base.value;
            return at;
        }
    }
    if (at.slot == nothing) {
        if (base.kind == Operand::Kind::reg) {
            at.slot = static_cast<int32_t>(base.index);
            at.bytes = width(at.slot);
        } else if (base.kind == Operand::Kind::variable || base.kind == Operand::Kind::symbol) {
            const Symbol symbol =
                base.kind == Operand::Kind::variable ? lf_->variables[base.index] : lf_->symbols[base.index];
            const bool in_shared = symbol.kind == Symbol::Kind::shared || symbol.kind == Symbol::Kind::dynamic_shared;
            at.bytes = in_shared ? 4 : 8;
            at.slot = read_address(base, at.bytes);
            if (in_shared) space = Space::shared;
        } else {
            fail("unexpected kind of address");
        }
    }
    if (at.bytes != 4 && at.bytes != 8) fail("an address has 32 or 64 bits");
    switch (space) {
        case Space::shared:
            at.window = Window::shared;
            break;
        case Space::local:
            at.window = Window::local;
            break;
        case Space::param:
            // Through a register: of a kernel's parameters the address is generic, of others local.
            at.window = f_->kernel ? Window::generic : Window::local;
            break;
        default:
            at.window = Window::generic;
            break;
    }
    if (at.bytes == 4 && (at.window == Window::generic || at.window == Window::local)) {
        at.slot = resized(at.slot, 4, 8, false);
        at.bytes = 8;
    }
    return at;
}

// The address as a generic pointer in 8-byte lanes.
int32_t Lowering::generic_address(const Operand& o, Space space) {
    const Address at = address(o, space);
    int32_t slot = at.slot;
    if (at.window == Window::frame || at.window == Window::parameter) {
        slot = temporary(8);
        Emitted& e = emit(at.window == Window::frame ? frame_address : parameter_address, slot);
        e.inst.imm = at.offset;
        e.inst.kind = 8;
        if (at.window == Window::parameter) return slot;
    } else {
        if (at.bytes == 4) slot = resized(slot, 4, 8, false);
        if (at.offset != 0) {
            Shape s;
            s.op = Opcode::add;
            s.type = Type::u64;
            const int32_t sum = temporary(8);
            emit(find_elementwise(s), sum, slot, constant(8, static_cast<uint64_t>(at.offset)));
            slot = sum;
        }
    }
    if (at.window == Window::generic) return slot;
    const int32_t t = temporary(8);
    emit(convert_address, t, slot).inst.kind = at.window == Window::shared ? 0 : 2;
    return t;
}

void Lowering::access(Access x, const Address& at, std::span<const int32_t> values) {
    x.window = at.window;
    x.address_bytes = static_cast<uint8_t>(at.bytes);
    x.count = static_cast<uint8_t>(values.size());
    Handler h = find_access(x);
    if (!h) fail("no such form of the instruction");
    Emitted& e = emit(h);
    e.inst.a = at.slot;
    e.inst.imm = at.offset;
    e.inst.kind = x.count;
    e.inst.cache = next_cache_++;
    if (values.size() == 1) {
        (x.store ? e.inst.b : e.inst.d) = values[0];
    } else {
        const auto count = static_cast<uint32_t>(values.size());
        e.apart = !x.store;
        std::copy(values.begin(), values.end(), extras(e, count, x.store ? 0 : (1U << count) - 1));
    }
}

void Lowering::load_store(const Instruction& i, const Modifiers& m) {
    const bool store = i.opcode == Opcode::st;
    const Type type = m.type();
    if (type == Type::none || type == Type::pred) fail("a type is missing");
    const Operand& value = operand(store ? 1 : 0);
    const Operand& where = operand(store ? 0 : 1);
    const bool sequential = m.has(".sc");
    const bool release = m.has(".release") || m.has(".acq_rel"), acquire = m.has(".acquire");
    Access x;
    x.store = store;
    const bool strong = m.has(".volatile") || m.has(".relaxed") || m.has(".mmio");
    if (strong || acquire || release || sequential) x.ordering = Ordering::relaxed;  // fences do the rest
    x.memory_bytes = static_cast<uint8_t>(ptx::bytes_of(type));
    x.sign_extend = !store && ptx::is_signed(type) && !ptx::is_float(type);
    std::vector<int32_t> values;
    const uint32_t count = m.vector();
    std::span<const Operand> list{&value, 1};
    if (value.kind == Operand::Kind::vector) list = items(value);
    if (list.size() != count) fail("the vector has " + std::to_string(list.size()) + " elements");
    uint32_t lane = lane_bytes(type);
    for (const Operand& o : list) {
        if (o.kind != Operand::Kind::reg) continue;
        const uint32_t bytes = width(static_cast<int32_t>(o.index));
        if (bytes < x.memory_bytes) fail("the register is too narrow");
        lane = std::max(lane, bytes);
    }
    for (const Operand& o : list) {
        if (o.kind == Operand::Kind::reg && width(static_cast<int32_t>(o.index)) == lane) {
            values.push_back(static_cast<int32_t>(o.index));
        } else if (!store && o.kind == Operand::Kind::sink) {
            values.push_back(count == 1 ? temporary(lane) : nothing);
        } else if (store && o.kind != Operand::Kind::reg) {
            int32_t v = read(o, type);
            if (lane != lane_bytes(type)) v = resized(v, lane_bytes(type), lane, false);
            values.push_back(v);
        } else {
            fail("the elements' registers differ in size");
        }
    }
    x.register_bytes = static_cast<uint8_t>(lane);
    const Address at = address(where, space_of(m));
    if (store && at.window == Window::parameter) fail("a kernel's parameters cannot be written");
    if (sequential || release) emit(fence).inst.kind = static_cast<uint8_t>(sequential ? 4 : 3);
    access(x, at, values);
    if (acquire) emit(fence).inst.kind = static_cast<uint8_t>(Ordering::acquire);
}

void Lowering::atomic(const Instruction& i, const Modifiers& m) {
    static constexpr std::pair<std::string_view, AtomicOp> names[] = {
        {".add", AtomicOp::add},   {".inc", AtomicOp::inc},  {".dec", AtomicOp::dec}, {".min", AtomicOp::min},
        {".max", AtomicOp::max},   {".and", AtomicOp::and_}, {".or", AtomicOp::or_},  {".xor", AtomicOp::xor_},
        {".exch", AtomicOp::exch}, {".cas", AtomicOp::cas}};
    const bool reduction = i.opcode == Opcode::red;
    if (m.has(".async")) {
        emit(unsupported).inst.imm = static_cast<int64_t>(i.opcode);
        return;
    }
    const AtomicOp* op = nullptr;
    for (const auto& [name, value] : names)
        if (m.has(name)) op = &value;
    if (!op) fail("expected an operation such as .add");
    const Type type = m.type();
    const size_t first = reduction ? 0 : 1;
    Address at = address(operand(first), space_of(m));
    if (at.window == Window::frame || at.window == Window::local || at.window == Window::parameter)
        fail("atomics are for global and shared memory");
    const uint32_t bytes = lane_bytes(type);
    const uint32_t count = m.vector();
    Handler h = find_atomic(*op, type, at.window == Window::shared, at.bytes);
    if (!h) fail("no such form of the instruction");
    if (m.has(".release") || m.has(".acq_rel") || m.has(".sc"))
        emit(fence).inst.kind = static_cast<uint8_t>(Ordering::release);
    auto one = [&](int32_t d, int32_t b, int32_t c, uint32_t index) {
        Emitted& e = emit(h, d, at.slot, b, c);
        e.inst.imm = at.offset + int64_t{index} * ptx::bytes_of(type);
        e.inst.cache = next_cache_++;
    };
    if (count == 1) {
        const int32_t b = read(operand(first + 1), type);
        const int32_t c = *op == AtomicOp::cas ? read(operand(first + 2), type) : nothing;
        int32_t d = reduction || operand(0).kind == Operand::Kind::sink ? nothing : write(operand(0), type);
        one(d, b, c, 0);
    } else {
        // A vector's elements are atomic each, not together.
        const auto sources = items(operand(first + 1));
        if (sources.size() != count) fail("the vector has the wrong length");
        std::vector<int32_t> values;
        for (const Operand& o : sources) values.push_back(read(o, type));
        std::vector<int32_t> olds;
        for (uint32_t k = 0; k < count; ++k) olds.push_back(reduction ? nothing : temporary(bytes));
        for (uint32_t k = 0; k < count; ++k) one(olds[k], values[k], nothing, k);
        if (!reduction) {
            const auto targets = items(operand(0));
            if (targets.size() != count) fail("the vector has the wrong length");
            for (uint32_t k = 0; k < count; ++k) {
                Shape s;
                s.op = Opcode::mov;
                s.type = bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64;
                emit(find_elementwise(s), write(targets[k], type), olds[k]);
            }
        }
    }
    if (m.has(".acquire") || m.has(".acq_rel") || m.has(".sc"))
        emit(fence).inst.kind = static_cast<uint8_t>(Ordering::acquire);
}

void Lowering::address_conversion(const Instruction& i, const Modifiers& m) {
    const Space space = space_of(m);
    if (i.opcode == Opcode::isspacep) {
        const int32_t a = read(operand(1), Type::u64);
        emit(is_in_space, write_predicate(operand(0)), a).inst.kind = static_cast<uint8_t>(space);
        return;
    }
    const bool to_space = m.has(".to");
    const Type type = m.type();
    if (ptx::bytes_of(type) != 8 && ptx::bytes_of(type) != 4) fail("an address has 32 or 64 bits");
    int32_t a;
    if (operand(1).kind == Operand::Kind::reg)
        a = resized_if_needed(static_cast<int32_t>(operand(1).index));
    else
        a = read(operand(1), Type::u64);
    const int32_t d = write_any(operand(0));
    if (d == nothing) return;
    const uint32_t bytes = width(d);
    if (bytes != 4 && bytes != 8) fail("an address has 32 or 64 bits");
    const int32_t target = bytes == 8 ? d : temporary(8);
    if (space == Space::shared || space == Space::local) {
        emit(convert_address, target, a).inst.kind =
            static_cast<uint8_t>((space == Space::local ? 2 : 0) | (to_space ? 1 : 0));
    } else {
        Shape s;
        s.op = Opcode::mov;
        s.type = Type::b64;
        emit(find_elementwise(s), target, a);
    }
    if (bytes == 4) {
        Shape s;
        s.op = Opcode::cvt;
        s.from = Type::u64;
        s.type = Type::u32;
        emit(find_elementwise(s), d, target);
    }
}

int32_t Lowering::resized_if_needed(int32_t slot) {
    return width(slot) == 4 ? resized(slot, 4, 8, false) : slot;
}

// mbarrier.init.shared.b64 [a], count and its kin.
void Lowering::mbarrier_instruction(const Modifiers& m) {
    const bool parity = m.has(".parity");
    const Space space = space_of(m) == Space::generic ? Space::generic : Space::shared;
    if (m.has(".pending_count")) {
        const int32_t state = read(operand(1), Type::b64);
        emit(mbarrier_pending, write(operand(0), Type::u32), state);
        return;
    }
    auto simple = [&](uint8_t kind, bool counted) {
        const int32_t a = generic_address(operand(0), space);
        const int32_t b = counted ? read(operand(1), Type::u32) : nothing;
        emit(mbarrier, nothing, a, b).inst.kind = kind;
    };
    if (m.has(".init")) return simple(0, true);
    if (m.has(".inval")) return simple(1, false);
    if (m.has(".complete_tx")) return simple(5, true);
    if (m.has(".expect_tx") && !m.has(".arrive") && !m.has(".arrive_drop")) return simple(4, true);
    if (m.has(".arrive") || m.has(".arrive_drop")) {
        // A remote barrier's arrival returns no state.
        const bool stateless = operand(0).kind == Operand::Kind::address;
        const size_t first = stateless ? 0 : 1;
        const int32_t a = generic_address(operand(first), space);
        const int32_t b = operand_count() > first + 1 ? read(operand(first + 1), Type::u32) : constant(4, 1);
        const int32_t d = stateless || operand(0).kind == Operand::Kind::sink ? nothing : write(operand(0), Type::b64);
        emit(mbarrier, d, a, b).inst.kind = m.has(".expect_tx") ? 8 : m.has(".arrive_drop") ? 3 : 2;
        return;
    }
    if (m.has(".test_wait") || m.has(".try_wait")) {
        const int32_t a = generic_address(operand(1), space);
        const int32_t b = parity ? read(operand(2), Type::u32) : read(operand(2), Type::b64);
        const int32_t d = write_predicate(operand(0));
        emit(mbarrier, d, a, b).inst.kind = parity ? 7 : 6;
        return;
    }
    fail("no such form of the instruction");
}

void Lowering::async_copy(const Instruction& i, const Modifiers& m) {
    if (m.has(".commit_group") || m.has(".wait_group") || m.has(".wait_all")) {
        if (m.has(".bulk")) {
            emit(unsupported).inst.imm = static_cast<int64_t>(i.opcode);
            return;
        }
        emit(no_operation);
        return;
    }
    if (m.has(".mbarrier")) {
        // The copies have happened: .noinc counts as an arrival, without it the arrival cancels its own increment.
        if (!m.has(".noinc")) {
            emit(no_operation);
            return;
        }
        const int32_t a = generic_address(operand(0), space_of(m) == Space::generic ? Space::generic : Space::shared);
        emit(mbarrier, nothing, a, constant(4, 1)).inst.kind = 2;
        return;
    }
    if (!m.has(".async") || m.has(".bulk") || m.has(".reduce")) {
        emit(unsupported).inst.imm = static_cast<int64_t>(i.opcode);
        return;
    }
    const Operand& size = operand(2);
    if (size.kind != Operand::Kind::integer) fail("the size must be a constant");
    if (size.value != 4 && size.value != 8 && size.value != 16) fail("the size must be 4, 8 or 16");
    const int32_t to = generic_address(operand(0), Space::shared);
    const int32_t from = generic_address(operand(1), Space::global);
    int32_t count = nothing;
    if (operand_count() > 3) {
        const Operand& o = operand(3);
        if (o.kind == Operand::Kind::reg && width(static_cast<int32_t>(o.index)) == 0) {
            // ignore-src: nothing is read where the predicate is true.
            Shape s;
            s.op = Opcode::selp;
            s.type = Type::b32;
            count = temporary(4);
            emit(find_elementwise(s), count, constant(4, 0), constant(4, static_cast<uint64_t>(size.value)),
                 static_cast<int32_t>(o.index));
        } else if (!(o.kind == Operand::Kind::reg && width(static_cast<int32_t>(o.index)) == 8)) {
            count = read(o, Type::u32);
        }
    }
    Emitted& e = emit(copy_async, nothing, to, from, count);
    e.inst.imm = size.value;
    e.inst.cache = next_cache_++;
}

bool Lowering::memory(const Instruction& i, const Modifiers& m) {
    switch (i.opcode) {
        case Opcode::ld:
        case Opcode::ldu:
            load_store(i, m);
            return true;
        case Opcode::st:
            if (m.has(".async") || m.has(".bulk")) return false;
            load_store(i, m);
            return true;
        case Opcode::atom:
        case Opcode::red:
            atomic(i, m);
            return true;
        case Opcode::cvta:
        case Opcode::isspacep:
            address_conversion(i, m);
            return true;
        case Opcode::tex:
        case Opcode::tld4:
        case Opcode::txq:
        case Opcode::suld:
        case Opcode::sust:
        case Opcode::suq:
            return texture(i, m);
        case Opcode::mbarrier:
            mbarrier_instruction(m);
            return true;
        case Opcode::cp:
            async_copy(i, m);
            return true;
        case Opcode::mapa: {
            // A cluster of one block: the address is the block's own.
            const uint32_t bytes = m.type() == Type::u32 ? 4 : 8;
            const Type type = bytes == 4 ? Type::u32 : Type::u64;
            Shape s;
            s.op = Opcode::mov;
            s.type = bytes == 4 ? Type::b32 : Type::b64;
            emit(find_elementwise(s), write(operand(0), type), read(operand(1), type));
            return true;
        }
        case Opcode::getctarank: {
            Shape s;
            s.op = Opcode::mov;
            s.type = Type::b32;
            s.variant = 1;
            emit(find_elementwise(s), write(operand(0), Type::u32)).inst.imm = 0;
            return true;
        }
        case Opcode::createpolicy: {
            Shape s;
            s.op = Opcode::mov;
            s.type = Type::b64;
            s.variant = 1;
            emit(find_elementwise(s), write(operand(0), Type::b64)).inst.imm = 0;
            return true;
        }
        case Opcode::alloca: {
            const uint32_t bytes = lane_bytes(m.type());
            int32_t size = read(operand(1), bytes == 4 ? Type::u32 : Type::u64);
            if (bytes == 4) size = resized(size, 4, 8, false);
            const int32_t d = write(operand(0), m.type());
            const int32_t t = bytes == 8 ? d : temporary(8);
            emit(stack_allocate, t, size).inst.imm = operand_count() > 2 ? operand(2).value : 8;
            code_->unbounded_stack = true;  // how much is known when it runs
            if (bytes == 4) emit(find_narrowing(), d, t);
            return true;
        }
        case Opcode::stacksave: {
            const uint32_t bytes = lane_bytes(m.type());
            const int32_t d = write(operand(0), m.type());
            const int32_t t = bytes == 8 ? d : temporary(8);
            emit(stack_allocate, t).inst.kind = 1;
            if (bytes == 4) emit(find_narrowing(), d, t);
            return true;
        }
        case Opcode::stackrestore: {
            int32_t a = read(operand(0), m.type());
            if (lane_bytes(m.type()) == 4) a = resized(a, 4, 8, false);
            emit(stack_allocate, nothing, a).inst.kind = 2;
            return true;
        }
        case Opcode::prefetch:
        case Opcode::prefetchu:
        case Opcode::discard:
        case Opcode::applypriority:
            emit(no_operation);
            return true;
        default:
            return false;
    }
}

Handler Lowering::find_narrowing() {
    Shape s;
    s.op = Opcode::cvt;
    s.from = Type::u64;
    s.type = Type::u32;
    return find_elementwise(s);
}

}  // namespace softgpu
