// What texture and surface instructions read and write: texels in memory, and how coordinates find them.
//
// The driver fills a Texture in from the descriptors of a texture or surface object. The rules are those of the CUDA
// programming guide, "Texture Fetching": texel centres at a half, weights of eight fraction bits, colours outside.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace softgpu {

struct Texture {
    enum class Channel : uint8_t { u8, s8, u16, s16, u32, s32, f16, f32 };
    enum class Address : uint8_t { wrap, clamp, mirror, border };  // as CUaddress_mode numbers them
    struct Level {
        uint64_t base = 0;
        uint32_t width = 1, height = 1, layers = 1;  // layers: slices of a 3D array too
        uint64_t pitch = 0, layer_pitch = 0;         // bytes
    };

    std::vector<Level> levels;  // at least one
    Channel channel = Channel::u8;
    uint8_t channels = 1;                 // 1, 2 or 4
    uint8_t dimensions = 1;               // that are filtered: 1, 2 or 3
    bool layered = false, cube = false;   // the third coordinate is a layer, or a face
    bool surface = false;                 // read and written by surface instructions, and by no others
    bool linear_memory = false;           // texels are found by their index; none are outside
    bool may_be_freed = false;            // memory of the program's own: every access is checked
    bool normalized_coordinates = false;  // 0 to 1 across the texture
    bool normalized_values = false;       // 8 and 16-bit integers are read as 0 to 1, or -1 to 1
    bool linear_filter = false, linear_levels = false, srgb = false;
    std::array<Address, 3> address{Address::clamp, Address::clamp, Address::clamp};
    std::array<float, 4> border{};
    float level_bias = 0, lowest_level = 0, highest_level = 0;
    std::shared_ptr<void> keeper;  // what the texels lie in

    [[nodiscard]] uint32_t channel_bytes() const {
        return channel <= Channel::s8 ? 1 : channel <= Channel::s16 || channel == Channel::f16 ? 2 : 4;
    }
    [[nodiscard]] uint32_t texel_bytes() const { return channel_bytes() * channels; }
    [[nodiscard]] bool gives_floats() const { return channel >= Channel::f16 || normalized_values; }
};

// The four components of what is read, as bits: of floats where the texture gives floats, else of integers.
using Texel = std::array<uint32_t, 4>;

// Asked before bytes of memory that may be freed are read; it does not return when they may not be.
class TexelGuard {
  public:
    virtual ~TexelGuard() = default;
    virtual void check(uint64_t address, uint64_t size) = 0;
};

struct TexturePosition {
    std::array<float, 3> at{};       // of the filtered dimensions, or the direction in a cube
    std::array<int32_t, 3> index{};  // the same as integers, where `integers`
    bool integers = false;
    uint32_t layer = 0;
};

// One read, at a level of detail (0 for what has no levels).
Texel sample(const Texture& t, const TexturePosition& p, float level, TexelGuard& guard);
// One component of the four texels that a linear filter would mix, in tld4's order.
Texel gather(const Texture& t, const TexturePosition& p, unsigned component, TexelGuard& guard);
// The level of detail of a read with derivatives of its coordinates.
float level_of(const Texture& t, const std::array<float, 3>& dx, const std::array<float, 3>& dy);

}  // namespace softgpu
