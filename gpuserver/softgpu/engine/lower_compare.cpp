// Lowering of comparisons: setp and set.
#include <algorithm>
#include <bit>

#include "engine/lower.h"
#include "engine/lower_types.h"

namespace softgpu {

using ptx::Opcode;

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

}  // namespace

// Puts the comparison into the shape; how its result is combined with operand c, and where c is.
Lowering::Combination Lowering::compare_and_combine(Shape& s, const Modifiers& m) {
    bool as_unsigned = false;
    const auto compare = comparison_of(m, as_unsigned);
    if (!compare) fail("expected a comparison such as .eq");
    s.compare = *compare;
    if (as_unsigned) s.type = unsigned_of(s.type);
    Combination found{combination_of(m), nothing};
    if (found.how) {
        const Predicate c = read_predicate(operand(3));
        found.other = c.slot;
        if (c.negated) found.how |= 4;
    }
    return found;
}

// Operands 1 and 2 of a packed comparison, each as two temporaries: the low half and the high one.
std::array<std::array<int32_t, 2>, 2> Lowering::unpack_halves() {
    std::array<std::array<int32_t, 2>, 2> halves{};
    for (size_t side = 0; side < 2; ++side) {
        const int32_t source = read(operand(1 + side), Type::b32);
        halves[side] = {temporary(2), temporary(2)};
        Emitted& e = emit(find_unpack(2, 4), nothing, source);
        e.inst.kind = 2;
        e.apart = true;
        int32_t* x = extras(e, 2, 3);
        x[0] = halves[side][0];
        x[1] = halves[side][1];
    }
    return halves;
}

// setp.cmp{.bool}{.ftz}.type p{|q}, a, b{, c}
void Lowering::comparison(const Instruction& i, const Modifiers& m) {
    Shape s = shape_of(i, m);
    const auto [combine, other] = compare_and_combine(s, m);
    const int32_t p = write_predicate(operand(0));
    const int32_t q = operand(0).second >= 0 ? operand(0).second : nothing;
    if (q != nothing && width(q) != 0) fail("the second destination must be a predicate");
    if (s.type == Type::f16x2 || s.type == Type::bf16x2) {
        // p is for the low halves, q for the high ones.
        s.type = half_of(s.type);
        const auto halves = unpack_halves();
        int32_t results[2] = {p == nothing ? temporary(0) : temporary(0), temporary(0)};
        for (size_t half = 0; half < 2; ++half)
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
    const auto [combine, other] = compare_and_combine(s, m);
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
    const int32_t results[2] = {temporary(2), temporary(2)};
    const auto halves = unpack_halves();
    for (size_t half = 0; half < 2; ++half) chosen(results[half], part, halves[0][half], halves[1][half]);
    Emitted& e = emit(find_pack(2, 4), write(operand(0), Type::b32));
    e.inst.kind = 2;
    e.apart = true;
    int32_t* x = extras(e, 2, 0);
    x[0] = results[0];
    x[1] = results[1];
}

}  // namespace softgpu
