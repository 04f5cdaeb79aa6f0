// How texture and surface instructions are lowered: what the handlers find in Inst::imm.
#pragma once

#include <bit>
#include <cstdint>

namespace softgpu {

struct TextureForm {
    enum class Level : uint8_t { base, given, of_gradients };
    enum class Outside : uint8_t { trap, clamp, zero };
    uint8_t values = 4;                   // registers that are written, or stored
    uint8_t coordinates = 1;              // after the layer
    bool layered = false;                 // the first coordinate is a layer
    bool integers = false;                // coordinates are texels' indices
    bool by_reference = false;            // a is the address of the object's handle, not the handle
    Level level = Level::base;            // extra operands: the level, or two vectors of derivatives
    uint8_t component = 0;                // that tld4 gathers; what txq asks for
    Outside outside : 4 = Outside::trap;  // of a surface
    uint8_t bytes : 4 = 4;                // of each value of a surface instruction
};
static_assert(sizeof(TextureForm) == sizeof(int64_t));

inline int64_t packed(TextureForm form) {
    return std::bit_cast<int64_t>(form);
}
inline TextureForm texture_form(int64_t imm) {
    return std::bit_cast<TextureForm>(imm);
}

// What txq and suq ask for.
enum class TextureQuery : uint8_t { width, height, depth, channel_type, channel_order, normalized, layers, levels };

}  // namespace softgpu
