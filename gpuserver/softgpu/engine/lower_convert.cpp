// Lowering of conversions and moves.
#include <algorithm>

#include "engine/lower.h"
#include "engine/lower_types.h"

namespace softgpu {

using ptx::Opcode;

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
        const int32_t low =
            width(source) == 2 || lane_bytes(from) == 2 ? source : resized(source, lane_bytes(from), 2, false);
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
            if (slot != nothing && width(slot) != (part == 1 ? 2 : part))
                fail("a part of the vector has the wrong size");
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
