// Lowering of arithmetic, comparisons, conversions and moves.
#include <algorithm>
#include <bit>

#include "engine/lower.h"

namespace softgpu {

using ptx::Opcode;

namespace {

ptx::Type bits_of_width(uint32_t bytes) {
    switch (bytes) {
        case 2:
            return ptx::Type::b16;
        case 4:
            return ptx::Type::b32;
        case 8:
            return ptx::Type::b64;
        default:
            return ptx::Type::b128;
    }
}

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

ptx::Type half_of(ptx::Type pair) { return pair == ptx::Type::f16x2 ? ptx::Type::f16 : ptx::Type::bf16; }

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
    if (m.types().size() == 2 && m.types()[0] == T::f32 && (i.opcode == Opcode::add || i.opcode == Opcode::sub || i.opcode == Opcode::fma)) {
        mixed_precision(i, m);
        return;
    }
    const Opcode op = i.opcode;
    if (s.type == T::pred) {
        const bool unary = op == Opcode::not_;
        if (!unary && op != Opcode::and_ && op != Opcode::or_ && op != Opcode::xor_) fail("no such form of the instruction");
        const int32_t a = plain_predicate(operand(1));
        const int32_t b = unary ? nothing : plain_predicate(operand(2));
        emit(predicate_logic, write_predicate(operand(0)), a, b).inst.kind =
            static_cast<uint8_t>(unary ? 3 : op == Opcode::and_ ? 0 : op == Opcode::or_ ? 1 : 2);
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
            static constexpr std::string_view classes[] = {".finite", ".infinite",     ".number",
                                                           ".notanumber", ".normal", ".subnormal"};
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
            emit(find_elementwise(test), p, d, constant(4, 0), q).inst.kind =
                static_cast<uint8_t>(m.has(".or") ? 2 : m.has(".xor") ? 3 : 1);
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
    const Opcode op = i.opcode == Opcode::addc ? Opcode::add : i.opcode == Opcode::subc ? Opcode::sub : i.opcode == Opcode::madc ? Opcode::mad : i.opcode;
    Handler h = find_carry(op, type, m.has(".hi"));
    const int32_t a = read(operand(1), type), b = read(operand(2), type);
    const int32_t c = mad ? read(operand(3), type) : nothing;
    emit(h, write(operand(0), type), a, b, c).inst.kind =
        static_cast<uint8_t>((reads ? 1 : 0) | (m.has(".cc") ? 2 : 0));
}

namespace {

std::optional<Compare> comparison_of(const Modifiers& m, bool& as_unsigned) {
    struct Row {
        std::string_view name;
        Compare compare;
        bool as_unsigned;
    };
    static constexpr Row rows[] = {
        {".eq", Compare::eq, false},   {".ne", Compare::ne, false},   {".lt", Compare::lt, false},
        {".le", Compare::le, false},   {".gt", Compare::gt, false},   {".ge", Compare::ge, false},
        {".lo", Compare::lt, true},    {".ls", Compare::le, true},    {".hi", Compare::gt, true},
        {".hs", Compare::ge, true},    {".equ", Compare::equ, false}, {".neu", Compare::neu, false},
        {".ltu", Compare::ltu, false}, {".leu", Compare::leu, false}, {".gtu", Compare::gtu, false},
        {".geu", Compare::geu, false}, {".num", Compare::num, false}, {".nan", Compare::nan, false},
    };
    for (const Row& row : rows) {
        if (!m.has(row.name)) continue;
        as_unsigned = row.as_unsigned;
        return row.compare;
    }
    return std::nullopt;
}

uint8_t combination_of(const Modifiers& m) {
    return m.has(".and") ? 1 : m.has(".or") ? 2 : m.has(".xor") ? 3 : 0;
}

ptx::Type unsigned_of(ptx::Type t) {
    switch (t) {
        case ptx::Type::s16:
        case ptx::Type::b16:
            return ptx::Type::u16;
        case ptx::Type::s32:
        case ptx::Type::b32:
            return ptx::Type::u32;
        case ptx::Type::s64:
        case ptx::Type::b64:
            return ptx::Type::u64;
        default:
            return t;
    }
}

}  // namespace

// setp.cmp{.bool}{.ftz}.type p{|q}, a, b{, c}
void Lowering::comparison(const Instruction& i, const Modifiers& m) {
    Shape s = shape_of(i, m);
    bool as_unsigned = false;
    const auto compare = comparison_of(m, as_unsigned);
    if (!compare) fail("expected a comparison such as .eq");
    s.compare = *compare;
    if (as_unsigned) s.type = unsigned_of(s.type);
    uint8_t combine = combination_of(m);
    int32_t other = nothing;
    if (combine) {
        const Predicate c = read_predicate(operand(3));
        other = c.slot;
        if (c.negated) combine |= 4;
    }
    const int32_t p = write_predicate(operand(0));
    const int32_t q = operand(0).second >= 0 ? operand(0).second : nothing;
    if (q != nothing && width(q) != 0) fail("the second destination must be a predicate");
    if (s.type == Type::f16x2 || s.type == Type::bf16x2) {
        // p is for the low halves, q for the high ones.
        s.type = half_of(s.type);
        int32_t halves[2][2];
        for (size_t side = 0; side < 2; ++side) {
            const int32_t source = read(operand(1 + side), Type::b32);
            halves[side][0] = temporary(2);
            halves[side][1] = temporary(2);
            Emitted& e = emit(find_unpack(2, 4), nothing, source);
            e.inst.kind = 2;
            e.apart = true;
            int32_t* x = extras(e, 2, 3);
            x[0] = halves[side][0];
            x[1] = halves[side][1];
        }
        int32_t results[2] = {p == nothing ? temporary(0) : temporary(0), temporary(0)};
        for (int half = 0; half < 2; ++half)
            emit(handler_of(s), results[half], halves[0][half], halves[1][half], other).inst.kind = combine;
        if (p != nothing) emit(predicate_logic, p, results[0]).inst.kind = 4;
        if (q != nothing) emit(predicate_logic, q, results[1]).inst.kind = 4;
        return;
    }
    const int32_t a = read(operand(1), s.type), b = read(operand(2), s.type);
    Emitted& e = emit(handler_of(s), p, a, b, other);
    e.inst.kind = combine;
    if (q != nothing) {
        e.inst.imm = 1;
        e.apart = true;
        extras(e, 1, 1)[0] = q;
    }
}

// set.cmp{.bool}{.ftz}.dtype.stype d, a, b{, c}
void Lowering::set(const Instruction& i, const Modifiers& m) {
    if (m.types().size() != 2) fail("expected two types");
    const Type to = m.types()[0];
    Shape s = shape_of(i, m);
    s.op = Opcode::setp;
    s.type = m.types()[1];
    bool as_unsigned = false;
    const auto compare = comparison_of(m, as_unsigned);
    if (!compare) fail("expected a comparison such as .eq");
    s.compare = *compare;
    if (as_unsigned) s.type = unsigned_of(s.type);
    uint8_t combine = combination_of(m);
    int32_t other = nothing;
    if (combine) {
        const Predicate c = read_predicate(operand(3));
        other = c.slot;
        if (c.negated) combine |= 4;
    }
    auto chosen = [&](int32_t d, Type type, int32_t a, int32_t b) {
        const int32_t p = temporary(0);
        emit(handler_of(s), p, a, b, other).inst.kind = combine;
        uint64_t yes = ~uint64_t{0};
        if (type == Type::f32) yes = std::bit_cast<uint32_t>(1.0f);
        if (type == Type::f16) yes = 0x3c00;
        if (type == Type::bf16) yes = 0x3f80;
        const uint32_t bytes = lane_bytes(type);
        Shape pick;
        pick.op = Opcode::selp;
        pick.type = bits_of_width(bytes);
        emit(find_elementwise(pick), d, constant(bytes, yes), constant(bytes, 0), p);
    };
    if (s.type != Type::f16x2 && s.type != Type::bf16x2) {
        const int32_t a = read(operand(1), s.type), b = read(operand(2), s.type);
        chosen(write(operand(0), to), to, a, b);
        return;
    }
    // Packed: each half on its own. An integer destination of 32 bits gets 0xffff in each half.
    s.type = half_of(s.type);
    const Type part = ptx::is_float(to) ? half_of(to) : Type::u16;
    int32_t halves[2][2], results[2] = {temporary(2), temporary(2)};
    for (size_t side = 0; side < 2; ++side) {
        const int32_t source = read(operand(1 + side), Type::b32);
        halves[side][0] = temporary(2);
        halves[side][1] = temporary(2);
        Emitted& e = emit(find_unpack(2, 4), nothing, source);
        e.inst.kind = 2;
        e.apart = true;
        int32_t* x = extras(e, 2, 3);
        x[0] = halves[side][0];
        x[1] = halves[side][1];
    }
    for (int half = 0; half < 2; ++half) chosen(results[half], part, halves[0][half], halves[1][half]);
    Emitted& e = emit(find_pack(2, 4), write(operand(0), Type::b32));
    e.inst.kind = 2;
    e.apart = true;
    int32_t* x = extras(e, 2, 0);
    x[0] = results[0];
    x[1] = results[1];
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

// From a value in the natural lane of `from` to a destination register that may be wider than `to`.
void Lowering::integer_conversion(const Modifiers& m, Type to, Type from) {
    (void)m;
    const int32_t source = read(operand(1), from);
    const int32_t d = write_any(operand(0));
    if (d == nothing) return;
    const uint32_t target = width(d);
    const uint32_t bytes = ptx::bytes_of(to);
    if (target < lane_bytes(to) || target > 8) fail("the destination is too narrow");
    Shape s;
    s.op = Opcode::cvt;
    if (bytes == 1) {
        // The low byte, extended to the whole register.
        const int32_t low = width(source) == 2 || lane_bytes(from) == 2 ? source : resized(source, lane_bytes(from), 2, false);
        s.from = to == Type::s8 ? Type::s8 : Type::u8;
        s.type = unsigned_of(bits_of_width(target));
        emit(find_elementwise(s), d, low);
        return;
    }
    s.from = from;
    s.type = unsigned_of(bits_of_width(bytes));
    if (target == bytes) {
        emit(find_elementwise(s), d, source);
        return;
    }
    const int32_t t = temporary(bytes);
    emit(find_elementwise(s), t, source);
    s.from = bytes == 2 ? (ptx::is_signed(to) ? Type::s16 : Type::u16) : (ptx::is_signed(to) ? Type::s32 : Type::u32);
    s.type = unsigned_of(bits_of_width(target));
    emit(find_elementwise(s), d, t);
}

void Lowering::conversion(const Instruction& i, const Modifiers& m) {
    Shape s = shape_of(i, m);
    if (m.has(".pack")) {
        // cvt.pack.sat.to.s32{.b32} d, a, b{, c}
        s.variant = 3;
        static constexpr std::string_view forms[] = {".u16", ".s16", ".u8", ".s8", ".u4", ".s4", ".u2", ".s2"};
        for (std::string_view form : forms) {
            if (!m.has(form)) continue;
            s.width = static_cast<uint8_t>(form == ".u16" || form == ".s16" ? 16 : form[2] - '0');
            s.signed_result = form[1] == 's';
        }
        const int32_t a = read(operand(1), Type::s32), b = read(operand(2), Type::s32);
        const int32_t c = operand_count() > 3 ? read(operand(3), Type::b32) : constant(4, 0);
        emit(find_conversion(s), write(operand(0), Type::b32), a, b, c);
        return;
    }
    if (m.types().size() < 2) fail("expected two types");
    s.type = m.types()[0];
    s.from = m.types()[1];
    const bool to_integer = !ptx::is_float(s.type), from_integer = !ptx::is_float(s.from);
    if (to_integer && from_integer && !s.sat) {
        integer_conversion(m, s.type, s.from);
        return;
    }
    bool rounds_to_integer = false;
    for (std::string_view word : m.list())
        rounds_to_integer |= word == ".rni" || word == ".rzi" || word == ".rmi" || word == ".rpi";
    s.integral = rounds_to_integer && s.type == s.from;
    const int32_t a = read(operand(1), s.from);
    // cvt.rn.f16x2.f32 d, a, b: a becomes the upper half.
    const int32_t b = operand_count() > 2 ? read(operand(2), s.from) : nothing;
    Handler h = b == nothing ? find_elementwise(s) : nullptr;
    if (!h) {
        s.variant = b != nothing ? 1 : 0;
        h = find_conversion(s);
    }
    if (!h) fail("no such form of the instruction");
    const uint32_t bytes = lane_bytes(s.type);
    const int32_t d = write_any(operand(0));
    if (d == nothing) return;
    if (width(d) == bytes) {
        emit(h, d, a, b);
        return;
    }
    if (width(d) < bytes || width(d) > 8) fail("the destination has the wrong size");
    const int32_t t = temporary(bytes);
    emit(h, t, a, b);
    Shape extend;
    extend.op = Opcode::cvt;
    extend.from = bytes == 2 ? (to_integer && ptx::is_signed(s.type) ? Type::s16 : Type::u16)
                             : (to_integer && ptx::is_signed(s.type) ? Type::s32 : Type::u32);
    extend.type = unsigned_of(bits_of_width(width(d)));
    emit(find_elementwise(extend), d, t);
}

void Lowering::move(const Instruction& i, const Modifiers& m) {
    (void)i;
    const Type type = m.type();
    if (type == Type::none) fail("a type is missing");
    const Operand& to = operand(0);
    const Operand& from = operand(1);
    if (type == Type::pred) {
        const int32_t a = plain_predicate(from);
        emit(predicate_logic, write_predicate(to), a).inst.kind = 4;
        return;
    }
    const uint32_t bytes = lane_bytes(type);
    if (to.kind == Operand::Kind::vector && from.kind != Operand::Kind::vector) {
        if (from.kind == Operand::Kind::special && from.count == 4) {  // mov.v4.u32 {...}, %tid
            const auto list = items(to);
            for (uint32_t k = 0; k < list.size() && k < 4; ++k) {
                if (list[k].kind == Operand::Kind::sink) continue;
                Emitted& e = emit(find_special(4), write(list[k], Type::b32));
                e.inst.kind = static_cast<uint8_t>(from.index);
                e.inst.imm = k;
            }
            return;
        }
        const auto list = items(to);
        if (list.empty() || bytes % list.size() != 0) fail("the vector does not fit");
        const auto part = static_cast<uint32_t>(bytes / list.size());
        const int32_t a = read(from, type);
        std::vector<int32_t> slots;
        for (const Operand& o : list) {
            const int32_t slot = write_any(o);
            if (slot != nothing && width(slot) != (part == 1 ? 2 : part)) fail("a part of the vector has the wrong size");
            slots.push_back(slot);
        }
        Emitted& e = emit(find_unpack(part, bytes), nothing, a);
        e.inst.kind = static_cast<uint8_t>(list.size());
        e.apart = true;
        int32_t* x = extras(e, static_cast<uint32_t>(slots.size()), (1U << slots.size()) - 1);
        std::copy(slots.begin(), slots.end(), x);
        return;
    }
    if (from.kind == Operand::Kind::vector && to.kind != Operand::Kind::vector) {
        const auto list = items(from);
        if (list.empty() || bytes % list.size() != 0) fail("the vector does not fit");
        const auto part = static_cast<uint32_t>(bytes / list.size());
        const Type part_type = part == 1 ? Type::b8 : bits_of_width(part);
        std::vector<int32_t> slots;
        for (const Operand& o : list) slots.push_back(read(o, part_type));
        Emitted& e = emit(find_pack(part, bytes), write(to, type));
        e.inst.kind = static_cast<uint8_t>(list.size());
        e.apart = true;
        int32_t* x = extras(e, static_cast<uint32_t>(slots.size()), 0);
        std::copy(slots.begin(), slots.end(), x);
        return;
    }
    const int32_t d = write(to, type);
    if (from.kind == Operand::Kind::vector) {
        fail("a vector to a vector");
    }
    if (bytes == 16) {
        emit(move_128, d, read(from, type));
        return;
    }
    if (from.kind == Operand::Kind::special && (bytes == 4 || bytes == 8)) {
        Emitted& e = emit(find_special(bytes), d);
        e.inst.kind = static_cast<uint8_t>(from.index);
        e.inst.imm = from.count;
        return;
    }
    Shape s;
    s.op = Opcode::mov;
    s.type = bits_of_width(bytes);
    if (from.kind == Operand::Kind::integer || from.kind == Operand::Kind::real) {
        s.variant = 1;
        emit(find_elementwise(s), d).inst.imm = static_cast<int64_t>(literal(from, type));
        return;
    }
    emit(find_elementwise(s), d, read(from, type));
}

}  // namespace softgpu
