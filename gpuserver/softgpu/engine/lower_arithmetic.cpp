// Lowering of arithmetic and selection.
#include <algorithm>
#include <bit>

#include "engine/lower.h"
#include "engine/lower_types.h"

namespace softgpu {

using ptx::Opcode;

namespace {

ptx::Type wider(ptx::Type type) {
    switch (type) {
        case ptx::Type::u16:
            return ptx::Type::u32;
        case ptx::Type::s16:
            return ptx::Type::s32;
        case ptx::Type::u32:
            return ptx::Type::u64;
        case ptx::Type::s32:
            return ptx::Type::s64;
        default:
            return ptx::Type::b128;
    }
}

}  // namespace

Shape Lowering::shape_of(const Instruction& i, const Modifiers& m) const {
    Shape s;
    s.op = i.opcode;
    s.type = m.type();
    for (std::string_view word : m.list()) {
        if (word == ".rn" || word == ".rni")
            s.rounding = RoundingMode::rn;
        else if (word == ".rz" || word == ".rzi")
            s.rounding = RoundingMode::rz;
        else if (word == ".rm" || word == ".rmi")
            s.rounding = RoundingMode::rm;
        else if (word == ".rp" || word == ".rpi")
            s.rounding = RoundingMode::rp;
        else if (word == ".rna")
            s.rounding = RoundingMode::rna;
        else if (word == ".ftz")
            s.ftz = true;
        else if (word == ".sat")
            s.sat = true;
        else if (word == ".relu")
            s.relu = true;
        else if (word == ".approx")
            s.approx = true;
        else if (word == ".full")
            s.full = true;
        else if (word == ".NaN")
            s.nan = true;
        else if (word == ".xorsign")
            s.xorsign = true;
        else if (word == ".oob")
            s.oob = true;
        else if (word == ".satfinite")
            s.satfinite = true;
        else if (word == ".hi")
            s.variant = 1;
        else if (word == ".wide")
            s.variant = 2;
    }
    return s;
}

Handler Lowering::handler_of(const Shape& s) const {
    if (Handler h = find_elementwise(s)) return h;
    if (Handler h = find_rare(s)) return h;
    fail("no such form of the instruction");
}

bool Lowering::arithmetic(const Instruction& i, const Modifiers& m) {
    switch (i.opcode) {
        case Opcode::mov:
            move(i, m);
            return true;
        case Opcode::selp:
        case Opcode::slct:
            select(i, m);
            return true;
        case Opcode::setp:
            comparison(i, m);
            return true;
        case Opcode::set:
            set(i, m);
            return true;
        case Opcode::cvt:
            conversion(i, m);
            return true;
        case Opcode::addc:
        case Opcode::subc:
        case Opcode::madc:
            carry_chain(i, m);
            return true;
        case Opcode::dp4a:
        case Opcode::dp2a:
            dot_product(i, m);
            return true;
        case Opcode::add:
        case Opcode::sub:
        case Opcode::mad:
            if (m.has(".cc")) {
                carry_chain(i, m);
                return true;
            }
            [[fallthrough]];
        case Opcode::mul:
        case Opcode::fma:
        case Opcode::div:
        case Opcode::rem:
        case Opcode::min:
        case Opcode::max:
        case Opcode::neg:
        case Opcode::abs:
        case Opcode::sqrt:
        case Opcode::rcp:
        case Opcode::rsqrt:
        case Opcode::sin:
        case Opcode::cos:
        case Opcode::ex2:
        case Opcode::lg2:
        case Opcode::tanh:
        case Opcode::and_:
        case Opcode::or_:
        case Opcode::xor_:
        case Opcode::not_:
        case Opcode::cnot:
        case Opcode::shl:
        case Opcode::shr:
        case Opcode::popc:
        case Opcode::clz:
        case Opcode::brev:
        case Opcode::bfe:
        case Opcode::bfi:
        case Opcode::bfind:
        case Opcode::bmsk:
        case Opcode::szext:
        case Opcode::sad:
        case Opcode::mul24:
        case Opcode::mad24:
        case Opcode::prmt:
        case Opcode::lop3:
        case Opcode::shf:
        case Opcode::copysign:
        case Opcode::testp:
        case Opcode::fns:
            elementwise(i, m);
            return true;
        default:
            return false;
    }
}

void Lowering::elementwise(const Instruction& i, const Modifiers& m) {
    using T = Type;
    Shape s = shape_of(i, m);
    if (s.type == T::none) fail("a type is missing");
    if (m.types().size() == 2 && m.types()[0] == T::f32 &&
        (i.opcode == Opcode::add || i.opcode == Opcode::sub || i.opcode == Opcode::fma)) {
        mixed_precision(i, m);
        return;
    }
    const Opcode op = i.opcode;
    if (s.type == T::pred) {
        const bool unary = op == Opcode::not_;
        if (!unary && op != Opcode::and_ && op != Opcode::or_ && op != Opcode::xor_)
            fail("no such form of the instruction");
        const int32_t a = plain_predicate(operand(1));
        const int32_t b = unary ? nothing : plain_predicate(operand(2));
        emit(predicate_logic, write_predicate(operand(0)), a, b).inst.kind =
            static_cast<uint8_t>(unary                ? 3
                                 : op == Opcode::and_ ? 0
                                 : op == Opcode::or_  ? 1
                                                      : 2);
        return;
    }
    T to = s.type, first = s.type, second = s.type, third = s.type;
    size_t sources = 2;
    switch (op) {
        case Opcode::neg:
        case Opcode::abs:
        case Opcode::sqrt:
        case Opcode::rcp:
        case Opcode::rsqrt:
        case Opcode::sin:
        case Opcode::cos:
        case Opcode::ex2:
        case Opcode::lg2:
        case Opcode::tanh:
        case Opcode::not_:
        case Opcode::cnot:
        case Opcode::brev:
            sources = 1;
            break;
        case Opcode::popc:
        case Opcode::clz:
            sources = 1;
            to = T::u32;
            break;
        case Opcode::bfind:
            sources = 1;
            to = T::u32;
            s.variant = m.has(".shiftamt");
            break;
        case Opcode::testp: {
            static constexpr std::string_view classes[] = {".finite",     ".infinite", ".number",
                                                           ".notanumber", ".normal",   ".subnormal"};
            sources = 1;
            to = T::pred;
            for (uint8_t k = 0; k < 6; ++k)
                if (m.has(classes[k])) s.variant = k;
            break;
        }
        case Opcode::mul:
            if (s.variant == 2) to = wider(s.type);
            if (!ptx::is_float(s.type) && s.variant == 0 && !m.has(".lo")) fail("expected .lo, .hi or .wide");
            break;
        case Opcode::mad:
            sources = 3;
            if (s.variant == 2) to = third = wider(s.type);
            break;
        case Opcode::fma:
        case Opcode::sad:
            sources = 3;
            break;
        case Opcode::mad24:
            sources = 3;
            break;
        case Opcode::shl:
        case Opcode::shr:
        case Opcode::szext:
            second = T::u32;
            if (op == Opcode::szext) s.variant = m.has(".wrap");
            break;
        case Opcode::bmsk:
            s.variant = m.has(".wrap");
            break;
        case Opcode::bfe:
            sources = 3;
            second = third = T::u32;
            break;
        case Opcode::min:
        case Opcode::max:
            if (operand_count() == 4) {
                sources = 3;
                s.variant = 1;
            }
            break;
        case Opcode::prmt: {
            static constexpr std::string_view modes[] = {"", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"};
            sources = 3;
            for (uint8_t k = 1; k < 7; ++k)
                if (m.has(modes[k])) s.variant = k;
            break;
        }
        case Opcode::shf:
            sources = 3;
            s.variant = static_cast<uint8_t>((m.has(".r") ? 1 : 0) | (m.has(".wrap") ? 2 : 0));
            break;
        case Opcode::fns:
            sources = 3;
            break;
        case Opcode::bfi:
        case Opcode::lop3:
            sources = 3;
            break;
        default:
            break;
    }
    const int32_t a = read(operand(1), first);
    const int32_t b = sources > 1 ? read(operand(2), second) : nothing;
    int32_t c = nothing;
    if (sources > 2) c = read(operand(3), op == Opcode::bfi ? T::u32 : third);
    if (op == Opcode::lop3) {
        const Operand& table = operand(4);
        if (table.kind != Operand::Kind::integer) fail("the table must be a constant");
        const int32_t d = write(operand(0), to);
        emit(handler_of(s), d, a, b, c).inst.imm = table.value & 0xff;
        if (operand(0).second != Operand::no_second || operand_count() > 5) {
            // lop3.and.b32 d|p, ...: p = (d != 0) and q
            Shape test;
            test.op = Opcode::setp;
            test.type = T::b32;
            test.compare = Compare::ne;
            const int32_t p = operand(0).second >= 0 ? operand(0).second : temporary(0);
            const int32_t q = operand_count() > 5 ? plain_predicate(operand(5)) : constant_predicate(true);
            emit(find_elementwise(test), p, d, constant(4, 0), q).inst.kind = static_cast<uint8_t>(m.has(".or")    ? 2
                                                                                                   : m.has(".xor") ? 3
                                                                                                                   : 1);
        }
        return;
    }
    if (to == T::pred) {
        emit(handler_of(s), write_predicate(operand(0)), a);
        return;
    }
    int32_t length = nothing;
    if (op == Opcode::bfi) length = read(operand(4), T::u32);
    const int32_t d = write(operand(0), to);
    Emitted& e = emit(handler_of(s), d, a, b, c);
    if (op == Opcode::bfi) extras(e, 1, 0)[0] = length;
}

// add, sub, fma with f16 or bf16 operands and an f32 accumulator: widening first is exact.
void Lowering::mixed_precision(const Instruction& i, const Modifiers& m) {
    Shape widen;
    widen.op = Opcode::cvt;
    widen.type = Type::f32;
    widen.from = m.types()[1];
    auto wide = [&](size_t index) {
        const int32_t t = temporary(4);
        const int32_t source = read(operand(index), widen.from);
        Handler h = find_elementwise(widen);
        emit(h ? h : find_conversion(widen), t, source);
        return t;
    };
    Shape s = shape_of(i, m);
    s.type = Type::f32;
    const int32_t a = wide(1);
    const int32_t b = i.opcode == Opcode::fma ? wide(2) : read(operand(2), Type::f32);
    const int32_t c = i.opcode == Opcode::fma ? read(operand(3), Type::f32) : nothing;
    emit(handler_of(s), write(operand(0), Type::f32), a, b, c);
}

void Lowering::carry_chain(const Instruction& i, const Modifiers& m) {
    const Type type = m.type();
    const bool mad = i.opcode == Opcode::mad || i.opcode == Opcode::madc;
    const bool reads = i.opcode == Opcode::addc || i.opcode == Opcode::subc || i.opcode == Opcode::madc;
    const Opcode op = i.opcode == Opcode::addc   ? Opcode::add
                      : i.opcode == Opcode::subc ? Opcode::sub
                      : i.opcode == Opcode::madc ? Opcode::mad
                                                 : i.opcode;
    Handler h = find_carry(op, type, m.has(".hi"));
    const int32_t a = read(operand(1), type), b = read(operand(2), type);
    const int32_t c = mad ? read(operand(3), type) : nothing;
    emit(h, write(operand(0), type), a, b, c).inst.kind =
        static_cast<uint8_t>((reads ? 1 : 0) | (m.has(".cc") ? 2 : 0));
}

void Lowering::select(const Instruction& i, const Modifiers& m) {
    if (m.types().empty()) fail("a type is missing");
    const Type type = m.types()[0];
    if (type == Type::pred) {
        const int32_t a = plain_predicate(operand(1)), b = plain_predicate(operand(2));
        const Predicate c = read_predicate(operand(3));
        emit(predicate_select, write_predicate(operand(0)), a, b, c.slot).inst.kind = c.negated;
        return;
    }
    Shape s = shape_of(i, m);
    s.variant = 0;
    const uint32_t bytes = lane_bytes(type);
    if (bytes > 8) fail("no such form of the instruction");
    s.type = bits_of_width(bytes);
    const int32_t a = read(operand(1), type), b = read(operand(2), type);
    if (i.opcode == Opcode::selp) {
        const Predicate c = read_predicate(operand(3));
        emit(handler_of(s), write(operand(0), type), a, b, c.slot).inst.kind = c.negated;
        return;
    }
    if (m.types().size() != 2) fail("expected two types");
    // slct: a subnormal selector is a zero under .ftz, and both are >= 0 or not by their sign: -0 >= 0 holds.
    const bool by_float = m.types()[1] == Type::f32;
    int32_t c = read(operand(3), m.types()[1]);
    if (by_float && s.ftz) {
        Shape flush;
        flush.op = Opcode::add;
        flush.type = Type::f32;
        flush.ftz = true;
        const int32_t t = temporary(4);
        emit(find_elementwise(flush), t, c, constant(4, 0));
        c = t;
    }
    s.ftz = false;
    s.variant = by_float;
    emit(handler_of(s), write(operand(0), type), a, b, c);
}

void Lowering::dot_product(const Instruction& i, const Modifiers& m) {
    if (m.types().size() != 2) fail("expected two types");
    Shape s;
    s.op = i.opcode;
    s.type = m.types()[0];
    s.from = m.types()[1];
    s.variant = m.has(".hi");
    const int32_t a = read(operand(1), Type::b32), b = read(operand(2), Type::b32), c = read(operand(3), Type::b32);
    emit(handler_of(s), write(operand(0), Type::b32), a, b, c);
}

}  // namespace softgpu
