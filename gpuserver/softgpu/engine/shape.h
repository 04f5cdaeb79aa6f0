// Names an elementwise instruction: operation, types and variants, as the lowering asks for its handler.
#pragma once

#include <cstdint>

#include "engine/code.h"
#include "ptx/ast.h"

namespace softgpu {

// Same order as arithmetic::Rounding and arithmetic::Comparison.
enum class RoundingMode : uint8_t { rn, rz, rm, rp, rna };
enum class Compare : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

struct Shape {
    ptx::Opcode op = ptx::Opcode::mov;
    ptx::Type type = ptx::Type::none;  // of the operation; the destination's for cvt
    ptx::Type from = ptx::Type::none;  // source of cvt
    RoundingMode rounding = RoundingMode::rn;
    Compare compare = Compare::eq;
    // Variant of the operation: mul/mad 0 lo, 1 hi, 2 wide; others say so where they are looked up.
    uint8_t variant = 0;
    bool ftz = false, sat = false, relu = false, approx = false, full = false;
    uint8_t width = 0;           // cvt.pack: bits of each half
    bool signed_result = false;  // cvt.pack
    bool nan = false, xorsign = false, oob = false, satfinite = false, integral = false;
};

// Handlers compiled for the best instruction set of this processor; nullptr for a shape that only
// `find_rare` knows.
Handler find_elementwise(const Shape& shape);
// Shapes that are not worth vectorising, compiled once. nullptr for a shape that PTX does not have.
Handler find_rare(const Shape& shape);
Handler find_conversion(const Shape& shape);

// Loads and stores. `address_bytes`: 4 or 8, of the address register's lanes.
enum class Window : uint8_t { generic, shared, local, frame, parameter };
enum class Ordering : uint8_t { weak, relaxed, acquire, release };
struct Access {
    bool store = false;
    Window window = Window::generic;
    Ordering ordering = Ordering::weak;
    uint8_t memory_bytes = 4;    // of one element
    bool sign_extend = false;    // loads into wider lanes
    uint8_t register_bytes = 4;  // of one lane of the value: 2, 4, 8 or 16
    uint8_t address_bytes = 8;
    uint8_t count = 1;  // elements: registers in extra[] when more than one
};
Handler find_access(const Access& access);

// One table for each instruction set that the handlers are compiled for.
struct HandlerTable {
    Handler (*elementwise)(const Shape&);
    Handler (*access)(const Access&);
};
extern const HandlerTable baseline_handlers;
#if defined(__x86_64__)
extern const HandlerTable avx2_handlers;
extern const HandlerTable avx512_handlers;
#endif

}  // namespace softgpu
