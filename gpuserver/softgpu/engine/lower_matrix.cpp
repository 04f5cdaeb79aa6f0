// Lowering of mma, ldmatrix, stmatrix and movmatrix (matrix.h). Forms of other units are left to `unsupported`: sparse
// and block-scaled products, 8-bit floats, single bits, and m8n8k4 of f16 with its layout of its own.
#include <charconv>

#include "engine/lower.h"
#include "engine/matrix.h"

namespace softgpu {

using ptx::Opcode;

namespace {

struct Size {
    uint32_t rows = 0, columns = 0, depth = 0;
};

// ".m16n8k16"; all zero for anything else.
Size size_of(std::string_view modifier) {
    Size size;
    const char* at = modifier.data();
    const char* const end = at + modifier.size();
    auto number = [&](char letter, uint32_t& into) {
        if (at == end || *at != letter) return false;
        const auto read = std::from_chars(at + 1, end, into);
        at = read.ptr;
        return read.ec == std::errc();
    };
    if (at == end || *at++ != '.') return {};
    if (!number('m', size.rows) || !number('n', size.columns) || !number('k', size.depth) || at != end) return {};
    return size;
}

// Bits of an element; 0 where it has no place in a product.
uint32_t element_bits(std::string_view type) {
    if (type == ".f16" || type == ".bf16") return 16;
    if (type == ".tf32") return 32;
    if (type == ".f64") return 64;
    if (type == ".s8" || type == ".u8") return 8;
    if (type == ".s4" || type == ".u4") return 4;
    return 0;
}

}  // namespace

std::span<const ptx::Operand> Lowering::registers_of(const Operand& o) const {
    return o.kind == Operand::Kind::vector ? items(o) : std::span<const Operand>(&o, 1);
}

// mma.sync.aligned.SHAPE.row.col{.satfinite}.D.A.B.C
bool Lowering::matrix_product(const Modifiers& m) {
    const auto words = m.list();
    if (words.size() < 8 || words[0] != ".sync" || words[1] != ".aligned" || m.has(".sp")) return false;
    const Size size = size_of(words[2]);
    const auto types = words.last(4);
    const uint32_t bits = element_bits(types[1]);
    const bool integer = bits == 8 || bits == 4;
    if (!bits || bits != element_bits(types[2]) || (!integer && types[1] != types[2])) return false;
    if ((size.rows != 8 && size.rows != 16) || size.columns != 8) return false;
    const uint32_t in_block = bits == 64 ? 4 : 128 / bits;  // elements of a row that one register of four lanes holds
    if (size.depth == 0 || size.depth % in_block || size.depth > 64) return false;
    if (words[3] != ".row" || words[4] != ".col") return false;

    MatrixForm form;
    form.rows = static_cast<uint8_t>(size.rows), form.depth = static_cast<uint8_t>(size.depth);
    form.a_signed = types[1].starts_with(".s"), form.b_signed = types[2].starts_with(".s");
    form.saturate = m.has(".satfinite");
    form.half = types[0] == ".f16";
    const std::string_view sum = bits == 64 ? ".f64" : integer ? ".s32" : ".f32";
    const bool halves = types[1] == ".f16";
    if (types[0] != types[3] || (types[0] != sum && !(halves && form.half))) return false;

    const uint32_t tiles = size.rows / 8, blocks = size.depth / in_block;
    const Type element = bits == 64 ? Type::f64 : Type::b32;
    const std::span<const Operand> parts[4] = {registers_of(operand(0)), registers_of(operand(1)),
                                               registers_of(operand(2)), registers_of(operand(3))};
    const uint32_t sums = tiles * (form.half ? 1 : 2);
    const size_t counts[4] = {sums, tiles * blocks, blocks, sums};
    const Type total = form.half ? Type::b32 : ptx::type_of(sum);
    const Type kinds[4] = {total, element, element, total};
    std::vector<int32_t> slots{constant(4, all_lanes)};
    for (int part = 0; part < 4; ++part) {
        if (parts[part].size() != counts[part])
            fail("operand " + std::to_string(part + 1) + " has " + std::to_string(parts[part].size()) +
                 " registers, not " + std::to_string(counts[part]));
        for (const Operand& o : parts[part]) slots.push_back(part ? read(o, kinds[part]) : write(o, kinds[part]));
    }
    Emitted& e = emit(find_matrix_product(ptx::type_of(types[1]), bits));
    e.inst.flow = Flow::collective;
    e.inst.imm = form.packed();
    const uint32_t results = ((1U << counts[0]) - 1) << 1;
    std::copy(slots.begin(), slots.end(), extras(e, static_cast<uint32_t>(slots.size()), results));
    return true;
}

// ldmatrix and stmatrix .sync.aligned.m8n8.x1|x2|x4{.trans}{.shared}.b16, ldmatrix.sync.aligned.m16n16.x1|x2.trans.b8
bool Lowering::matrix_move(const Modifiers& m, bool load) {
    const bool bytes = load && m.has(".m16n16") && m.has(".trans") && m.has(".b8");
    if (!bytes && (!m.has(".m8n8") || !m.has(".b16"))) return false;
    const uint32_t matrices = m.has(".x4") ? 4 : m.has(".x2") ? 2 : 1, count = matrices * (bytes ? 2 : 1);
    if (count > 4) return false;
    const auto registers = registers_of(operand(load ? 0 : 1));
    if (registers.size() != count) fail("expected " + std::to_string(count) + " registers");
    const int32_t rows = generic_address(operand(load ? 1 : 0), space_of(m));
    std::vector<int32_t> slots{constant(4, all_lanes)};
    for (const Operand& o : registers) slots.push_back(load ? write(o, Type::b32) : read(o, Type::b32));
    Emitted& e = emit(bytes ? load_byte_matrices : load ? load_matrices : store_matrices, nothing, rows);
    e.inst.flow = Flow::collective;
    e.inst.kind = static_cast<uint8_t>(matrices);
    e.inst.imm = m.has(".trans");
    e.inst.cache = next_cache_++;
    std::copy(slots.begin(), slots.end(), extras(e, count + 1, load ? ((1U << count) - 1) << 1 : 0));
    return true;
}

bool Lowering::matrix(const Instruction& i, const Modifiers& m) {
    switch (i.opcode) {
        case Opcode::mma:
            return matrix_product(m);
        case Opcode::ldmatrix:
        case Opcode::stmatrix:
            return matrix_move(m, i.opcode == Opcode::ldmatrix);
        case Opcode::movmatrix: {
            const int32_t from = read(operand(1), Type::b32);
            Emitted& e = emit(transpose_matrix, write(operand(0), Type::b32), from);
            e.inst.flow = Flow::collective;
            extras(e, 1, 0)[0] = constant(4, all_lanes);
            return true;
        }
        default:
            return false;
    }
}

}  // namespace softgpu
