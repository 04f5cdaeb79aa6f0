// Products of small matrices that the lanes of a warp hold together: mma (PTX ISA 9.7.14.5), and ldmatrix, stmatrix and
// movmatrix, which move such matrices.
//
// One rule says which lane holds what, for every shape from m8n8 to m16n8. With g = lane / 4, t = lane % 4 and p
// elements in a register: register j of A holds row g (+ 8 for odd j where there are 16 rows) from column 4p * (j /
// tiles) + p*t on; register j of B holds column g from row 4p*j + p*t on; C and D hold columns 2t and 2t + 1 of row g,
// then of g + 8.
//
// Sums: PTX leaves order and rounding of f16, bf16 and tf32 products open. Here: exact products, added to C one after
// another in f32 (in f64: fused), rounded once more where the result is f16.
#include "engine/matrix.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "engine/addressing.h"
#include "engine/arithmetic/half.h"
#include "engine/context.h"

namespace softgpu {

namespace {

using arithmetic::bf16;
using arithmetic::f16;
using arithmetic::f16x2;

constexpr uint32_t columns = 8, most_rows = 16, most_depth = 64;

// How the elements of A and B lie in a register.
struct Halves {
    using Word = uint32_t;
    using Value = float;
    static constexpr uint32_t in_register = 2;
    static Value element(Word word, uint32_t e, bool) {
        return arithmetic::widen(f16{static_cast<uint16_t>(word >> 16 * e)});
    }
};
struct Brains {
    using Word = uint32_t;
    using Value = float;
    static constexpr uint32_t in_register = 2;
    static Value element(Word word, uint32_t e, bool) {
        return arithmetic::widen(bf16{static_cast<uint16_t>(word >> 16 * e)});
    }
};
struct Tensors {  // tf32: the low 13 bits do not count
    using Word = uint32_t;
    using Value = float;
    static constexpr uint32_t in_register = 1;
    static Value element(Word word, uint32_t, bool) { return arithmetic::float_of(word & ~0x1fffU); }
};
struct Doubles {
    using Word = uint64_t;
    using Value = double;
    static constexpr uint32_t in_register = 1;
    static Value element(Word word, uint32_t, bool) { return arithmetic::double_of(word); }
};
template <uint32_t Bits>
struct Integers {
    using Word = uint32_t;
    using Value = int32_t;
    static constexpr uint32_t in_register = 32 / Bits;
    static Value element(Word word, uint32_t e, bool with_sign) {
        const uint32_t top = word << (32 - Bits - Bits * e);
        return with_sign ? static_cast<int32_t>(top) >> (32 - Bits) : static_cast<int32_t>(top >> (32 - Bits));
    }
};

template <typename Value>
struct Matrices {
    Value a[most_rows][most_depth];
    Value b[most_depth][columns];
    Value c[most_rows][columns];
};

// Row by row; the columns side by side, so that the compiler makes vectors of them.
template <typename Value>
void multiply_add(Matrices<Value>& m, uint32_t rows, uint32_t depth, bool saturate) {
    for (uint32_t row = 0; row < rows; ++row) {
        Value sum[columns];
        if constexpr (std::is_integral_v<Value>) {
            for (uint32_t n = 0; n < columns; ++n) sum[n] = 0;  // no product of these sizes overflows
        } else {
            for (uint32_t n = 0; n < columns; ++n) sum[n] = m.c[row][n];
        }
        for (uint32_t k = 0; k < depth; ++k) {
            const Value a = m.a[row][k];
            for (uint32_t n = 0; n < columns; ++n) {
                if constexpr (std::is_same_v<Value, double>)
                    sum[n] = std::fma(a, m.b[k][n], sum[n]);
                else
                    sum[n] += a * m.b[k][n];
            }
        }
        for (uint32_t n = 0; n < columns; ++n) {
            if constexpr (std::is_integral_v<Value>) {
                const int64_t whole = int64_t{m.c[row][n]} + sum[n];
                const int64_t kept = saturate ? std::clamp<int64_t>(whole, INT32_MIN, INT32_MAX) : whole;
                m.c[row][n] = static_cast<int32_t>(kept);
            } else {
                m.c[row][n] = sum[n];
            }
        }
    }
}

template <typename Element>
void multiply_matrices(Context& c, const Inst& i, uint32_t mask) {
    using Word = typename Element::Word;
    using Value = typename Element::Value;
    constexpr uint32_t p = Element::in_register;
    const MatrixForm form = MatrixForm::of(i.imm);
    const uint32_t tiles = form.rows / 8, blocks = form.depth / (4 * p);
    const int32_t* registers = c.code->extra.data() + i.extra + 1;
    const int32_t* d = registers;
    registers += tiles * (form.half ? 1 : 2);
    Matrices<Value> m;
    for (uint32_t j = 0; j < tiles * blocks; ++j) {
        const Word* words = in<Word>(c, *registers++);
        for (uint32_t l = 0; l < lanes; ++l) {
            Value* at = &m.a[l / 4 + 8 * (j % tiles)][4 * p * (j / tiles) + p * (l % 4)];
            for (uint32_t e = 0; e < p; ++e) at[e] = Element::element(words[l], e, form.a_signed);
        }
    }
    for (uint32_t j = 0; j < blocks; ++j) {
        const Word* words = in<Word>(c, *registers++);
        for (uint32_t l = 0; l < lanes; ++l) {
            for (uint32_t e = 0; e < p; ++e)
                m.b[4 * p * j + p * (l % 4) + e][l / 4] = Element::element(words[l], e, form.b_signed);
        }
    }
    auto place = [&](uint32_t j, uint32_t l) -> Value& { return m.c[l / 4 + 8 * (j / 2)][2 * (l % 4) + j % 2]; };
    for (uint32_t j = 0; j < 2 * tiles; ++j) {
        if (form.half) {
            const uint32_t* words = in<uint32_t>(c, registers[j / 2]);
            for (uint32_t l = 0; l < lanes; ++l)
                place(j, l) = static_cast<Value>(Halves::element(words[l], j % 2, false));
        } else {
            const Value* values = in<Value>(c, registers[j]);
            for (uint32_t l = 0; l < lanes; ++l) place(j, l) = values[l];
        }
    }
    multiply_add(m, form.rows, form.depth, form.saturate);
    for (uint32_t j = 0; j < 2 * tiles; ++j) {
        if (!form.half) {
            Value* values = out<Value>(c, d[j]);
            for_lanes(mask, [&](uint32_t l) {
                if constexpr (std::is_same_v<Value, float>)
                    values[l] = arithmetic::canonical(place(j, l));
                else
                    values[l] = place(j, l);
            });
        } else if (j % 2 == 0) {
            uint32_t* words = out<uint32_t>(c, d[j / 2]);
            for_lanes(mask, [&](uint32_t l) {
                const auto half = [&](uint32_t of) {
                    return arithmetic::narrow<f16>(static_cast<float>(place(of, l)));
                };
                words[l] = arithmetic::pack(half(j), half(j + 1)).bits;
            });
        }
    }
}

// The rows of 8x8 matrices of 16-bit elements: lane l names row l % 8 of matrix l / 8.
std::byte* row_at(Context& c, const Inst& i, uint32_t lane, bool write) {
    constexpr uint64_t row_bytes = 16;
    const uint64_t address = in<uint64_t>(c, i.a)[lane];
    if (address % row_bytes) fault_alignment(c, i, lane, address, row_bytes, "shared");
    if (!accessible(c, i, address, row_bytes, write)) fault_address(c, i, lane, address, row_bytes, "shared");
    return reinterpret_cast<std::byte*>(address);
}

using Square = uint16_t[8][8];

uint32_t held_by(const Square& square, uint32_t lane, bool transposed) {
    const uint32_t row = lane / 4, column = 2 * (lane % 4);
    const uint32_t first = transposed ? square[column][row] : square[row][column];
    const uint32_t second = transposed ? square[column + 1][row] : square[row][column + 1];
    return first | second << 16;
}

void take_from(Square& square, uint32_t lane, bool transposed, uint32_t word) {
    const uint32_t row = lane / 4, column = 2 * (lane % 4);
    (transposed ? square[column][row] : square[row][column]) = static_cast<uint16_t>(word);
    (transposed ? square[column + 1][row] : square[row][column + 1]) = static_cast<uint16_t>(word >> 16);
}

}  // namespace

Handler find_matrix_product(ptx::Type element, uint32_t bits) {
    if (element == ptx::Type::f16) return &multiply_matrices<Halves>;
    if (element == ptx::Type::bf16) return &multiply_matrices<Brains>;
    if (element == ptx::Type::tf32) return &multiply_matrices<Tensors>;
    if (element == ptx::Type::f64) return &multiply_matrices<Doubles>;
    if (bits == 8) return &multiply_matrices<Integers<8>>;
    if (bits == 4) return &multiply_matrices<Integers<4>>;
    return nullptr;
}

void load_matrices(Context& c, const Inst& i, uint32_t mask) {
    Square squares[4];
    for (uint32_t l = 0; l < 8U * i.kind; ++l) std::memcpy(squares[l / 8][l % 8], row_at(c, i, l, false), 16);
    for (uint32_t k = 0; k < i.kind; ++k) {
        uint32_t* d = out<uint32_t>(c, c.code->extra[i.extra + 1 + k]);
        for_lanes(mask, [&](uint32_t l) { d[l] = held_by(squares[k], l, i.imm != 0); });
    }
}

void load_byte_matrices(Context& c, const Inst& i, uint32_t mask) {
    uint8_t bytes[2][16][16];
    for (uint32_t l = 0; l < 16U * i.kind; ++l) std::memcpy(bytes[l / 16][l % 16], row_at(c, i, l, false), 16);
    for (uint32_t k = 0; k < 2U * i.kind; ++k) {
        uint32_t* d = out<uint32_t>(c, c.code->extra[i.extra + 1 + k]);
        for_lanes(mask, [&](uint32_t l) {
            const uint32_t column = l / 4 + 8 * (k % 2), row = 4 * (l % 4);
            d[l] = 0;
            for (uint32_t e = 0; e < 4; ++e) d[l] |= uint32_t{bytes[k / 2][row + e][column]} << 8 * e;
        });
    }
}

void store_matrices(Context& c, const Inst& i, uint32_t) {
    for (uint32_t k = 0; k < i.kind; ++k) {
        Square square;
        const uint32_t* words = in<uint32_t>(c, c.code->extra[i.extra + 1 + k]);
        for (uint32_t l = 0; l < lanes; ++l) take_from(square, l, i.imm != 0, words[l]);
        for (uint32_t row = 0; row < 8; ++row) std::memcpy(row_at(c, i, 8 * k + row, true), square[row], 16);
    }
}

void transpose_matrix(Context& c, const Inst& i, uint32_t mask) {
    Square square;
    const uint32_t* words = in<uint32_t>(c, i.a);
    for (uint32_t l = 0; l < lanes; ++l) take_from(square, l, false, words[l]);
    uint32_t* d = out<uint32_t>(c, i.d);
    for_lanes(mask, [&](uint32_t l) { d[l] = held_by(square, l, true); });
}

}  // namespace softgpu
