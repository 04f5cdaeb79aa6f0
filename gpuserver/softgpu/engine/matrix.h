// Matrices that the lanes of a warp hold together: what mma, ldmatrix, stmatrix and movmatrix are executed by.
// extra[0] of each is the membermask.
#pragma once

#include "engine/code.h"
#include "ptx/ast.h"

namespace softgpu {

// What a product's handler has to know beyond its element type; travels in the instruction's `imm`.
struct MatrixForm {
    uint8_t rows = 16;   // of A, C and D: 8 or 16
    uint8_t depth = 16;  // columns of A, rows of B
    bool a_signed = false, b_signed = false, saturate = false;
    bool half = false;  // C and D are f16

    [[nodiscard]] int64_t packed() const {
        return rows | depth << 8 | a_signed << 16 | b_signed << 17 | saturate << 18 | half << 19;
    }
    static MatrixForm of(int64_t packed) {
        auto bit = [&](int at) { return (packed >> at & 1) != 0; };
        return {static_cast<uint8_t>(packed), static_cast<uint8_t>(packed >> 8), bit(16), bit(17), bit(18), bit(19)};
    }
};

// D = A * B + C. extra: membermask, then the registers of D, A, B and C. `bits` of an integer element; null for an
// element that there is no product of.
Handler find_matrix_product(ptx::Type element, uint32_t bits);
// `kind` matrices of 8x8 16-bit elements. a: addresses of rows (generic, 8-byte lanes); extra: membermask, then a
// register for each matrix; imm: transposed.
void load_matrices(Context& c, const Inst& i, uint32_t mask);
// `kind` matrices of 16x16 bytes, transposed: two registers each, of columns 0 to 7 and 8 to 15.
void load_byte_matrices(Context& c, const Inst& i, uint32_t mask);
void store_matrices(Context& c, const Inst& i, uint32_t mask);
// d = the transposed matrix a.
void transpose_matrix(Context& c, const Inst& i, uint32_t mask);

}  // namespace softgpu
