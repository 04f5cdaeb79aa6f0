// Reading textures.
#include "engine/texture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "engine/arithmetic/arithmetic.h"

namespace softgpu {
namespace {

using Address = Texture::Address;
using Channel = Texture::Channel;
using Level = Texture::Level;

uint32_t bits(float value) {
    return std::bit_cast<uint32_t>(value);
}
float real(uint32_t value) {
    return std::bit_cast<float>(value);
}

// Where texel `i` of an axis is found; -1 for one that has the colour of the border.
int64_t place(int64_t i, int64_t size, Address mode, bool normalized) {
    // Repetition needs coordinates from 0 to 1.
    if (!normalized && (mode == Address::wrap || mode == Address::mirror)) mode = Address::clamp;
    switch (mode) {
        case Address::wrap:
            return (i % size + size) % size;
        case Address::mirror: {
            const int64_t within = (i % (2 * size) + 2 * size) % (2 * size);
            return within < size ? within : 2 * size - 1 - within;
        }
        case Address::border:
            return i < 0 || i >= size ? -1 : i;
        default:
            return std::clamp<int64_t>(i, 0, size - 1);
    }
}

float linear_of_srgb(float c) {
    return c <= 0.04045F ? c / 12.92F : std::pow((c + 0.055F) / 1.055F, 2.4F);
}

uint32_t component(const Texture& t, const std::byte* texel, unsigned index) {
    const std::byte* at = texel + index * t.channel_bytes();
    const auto take = [&](auto value) {
        std::memcpy(&value, at, sizeof value);
        return value;
    };
    // The most negative integer is -1, as the one above it is.
    const auto integer = [&](auto value, float scale) {
        if (!t.normalized_values) return static_cast<uint32_t>(static_cast<int32_t>(value));
        const float c = std::max(static_cast<float>(value) / scale, -1.0F);
        return bits(t.srgb && index < 3 ? linear_of_srgb(c) : c);
    };
    switch (t.channel) {
        case Channel::u8:
            return integer(take(uint8_t{}), 255.0F);
        case Channel::s8:
            return integer(take(int8_t{}), 127.0F);
        case Channel::u16:
            return integer(take(uint16_t{}), 65535.0F);
        case Channel::s16:
            return integer(take(int16_t{}), 32767.0F);
        case Channel::f16:
            return bits(arithmetic::widen(arithmetic::f16{take(uint16_t{})}));
        default:
            return take(uint32_t{});
    }
}

Texel border_of(const Texture& t) {
    Texel texel{};
    for (unsigned k = 0; k < 4; ++k) {
        texel[k] = t.gives_floats() ? bits(t.border[k]) : static_cast<uint32_t>(static_cast<int32_t>(t.border[k]));
    }
    return texel;
}

// The texel at these places; what is negative lies outside.
Texel fetch(const Texture& t, const Level& level, int64_t x, int64_t y, int64_t layer, TexelGuard& guard) {
    if (x < 0 || y < 0 || layer < 0) return border_of(t);
    const uint64_t address = level.base + static_cast<uint64_t>(layer) * level.layer_pitch +
                             static_cast<uint64_t>(y) * level.pitch + static_cast<uint64_t>(x) * t.texel_bytes();
    if (t.may_be_freed) guard.check(address, t.texel_bytes());
    Texel texel{0, 0, 0, t.gives_floats() ? bits(1.0F) : 1};
    for (unsigned k = 0; k < t.channels; ++k) texel[k] = component(t, reinterpret_cast<const std::byte*>(address), k);
    return texel;
}

// Coordinates without bounds and NaN become texels outside.
int64_t whole(float value) {
    constexpr float most = 1U << 30;
    return std::isnan(value) ? 0 : static_cast<int64_t>(std::clamp(value, -most, most));
}

// The texels to either side of a coordinate, and the weight of the second.
struct Axis {
    int64_t first = 0, second = 0;
    float weight = 0;
};

Axis axis_of(const Texture& t, float at, int64_t size, Address mode, bool linear) {
    float c = t.normalized_coordinates || t.cube ? at * static_cast<float>(size) : at;
    if (linear) c -= 0.5F;
    const float below = std::floor(c);
    const int64_t i = whole(below);
    const bool repeats = t.normalized_coordinates && !t.cube;
    Axis axis{place(i, size, mode, repeats), 0, 0};
    if (!linear) return axis;
    axis.second = place(i + 1, size, mode, repeats);
    axis.weight = std::isfinite(c) ? std::nearbyint((c - below) * 256.0F) / 256.0F : 0;
    return axis;
}

// A cube's face and the place on it, of a direction.
TexturePosition on_face(const TexturePosition& p) {
    const auto [x, y, z] = p.at;
    const float ax = std::fabs(x), ay = std::fabs(y), az = std::fabs(z);
    float s = 0, r = 0, major = 1;
    uint32_t face = 0;
    if (ax >= ay && ax >= az) {
        face = x < 0, s = x < 0 ? z : -z, r = -y, major = ax;
    } else if (ay >= az) {
        face = 2 + (y < 0), s = x, r = y < 0 ? -z : z, major = ay;
    } else {
        face = 4 + (z < 0), s = z < 0 ? -x : x, r = -y, major = az;
    }
    TexturePosition found;
    found.at = {(s / major + 1) / 2, (r / major + 1) / 2, 0};
    found.layer = p.layer * 6 + face;
    return found;
}

struct Axes {
    std::array<Axis, 3> of;
    int64_t layer = 0;
};

Axes axes_of(const Texture& t, const Level& level, const TexturePosition& given, bool linear) {
    const TexturePosition p = t.cube ? on_face(given) : given;
    const std::array<int64_t, 3> sizes{level.width, level.height, level.layers};
    Axes axes;
    for (unsigned d = 0; d < t.dimensions; ++d) {
        const Address mode = t.cube ? Address::clamp : t.address[d];
        if (p.integers) {
            axes.of[d].first = place(p.index[d], sizes[d], mode, false);
        } else {
            axes.of[d] = axis_of(t, p.at[d], sizes[d], mode, linear);
        }
    }
    if (t.layered || t.cube) axes.layer = std::min<int64_t>(p.layer, level.layers - 1);
    return axes;
}

Texel sample_level(const Texture& t, const TexturePosition& p, const Level& level, TexelGuard& guard) {
    if (t.linear_memory) {
        const int64_t i = p.integers ? p.index[0] : whole(std::floor(p.at[0]));
        return i < 0 || i >= int64_t{level.width} ? Texel{} : fetch(t, level, i, 0, 0, guard);
    }
    const bool linear = t.linear_filter && t.gives_floats() && !p.integers;
    const Axes axes = axes_of(t, level, p, linear);
    const bool solid = t.dimensions == 3;
    if (!linear) {
        return fetch(t, level, axes.of[0].first, axes.of[1].first, solid ? axes.of[2].first : axes.layer, guard);
    }
    std::array<float, 4> sum{};
    for (unsigned corner = 0; corner < 1U << t.dimensions; ++corner) {
        std::array<int64_t, 3> at{0, 0, axes.layer};
        float weight = 1;
        for (unsigned d = 0; d < t.dimensions; ++d) {
            const Axis& axis = axes.of[d];
            const bool second = corner >> d & 1;
            at[d] = second ? axis.second : axis.first;
            weight *= second ? axis.weight : 1 - axis.weight;
        }
        if (weight == 0) continue;
        const Texel texel = fetch(t, level, at[0], at[1], at[2], guard);
        for (unsigned k = 0; k < 4; ++k) sum[k] += weight * real(texel[k]);
    }
    return {bits(sum[0]), bits(sum[1]), bits(sum[2]), bits(sum[3])};
}

}  // namespace

Texel sample(const Texture& t, const TexturePosition& p, float level, TexelGuard& guard) {
    if (t.levels.size() == 1) return sample_level(t, p, t.levels[0], guard);
    const auto last = static_cast<float>(t.levels.size() - 1);
    if (std::isnan(level)) level = 0;
    level = std::clamp(level + t.level_bias, t.lowest_level, std::max(t.lowest_level, t.highest_level));
    level = std::clamp(level, 0.0F, last);
    if (!t.linear_levels || !t.gives_floats()) {
        return sample_level(t, p, t.levels[static_cast<size_t>(level + 0.5F)], guard);
    }
    const auto below = static_cast<size_t>(level);
    const float weight = std::nearbyint((level - static_cast<float>(below)) * 256.0F) / 256.0F;
    Texel texel = sample_level(t, p, t.levels[below], guard);
    if (weight == 0) return texel;
    const Texel other = sample_level(t, p, t.levels[std::min(below + 1, t.levels.size() - 1)], guard);
    for (unsigned k = 0; k < 4; ++k) texel[k] = bits((1 - weight) * real(texel[k]) + weight * real(other[k]));
    return texel;
}

Texel gather(const Texture& t, const TexturePosition& p, unsigned component, TexelGuard& guard) {
    const Level& level = t.levels[0];
    const Axes axes = axes_of(t, level, p, true);
    const Axis &x = axes.of[0], &y = axes.of[1];
    const auto one = [&](int64_t i, int64_t j) { return fetch(t, level, i, j, axes.layer, guard)[component]; };
    return {one(x.first, y.second), one(x.second, y.second), one(x.second, y.first), one(x.first, y.first)};
}

float level_of(const Texture& t, const std::array<float, 3>& dx, const std::array<float, 3>& dy) {
    const Level& level = t.levels[0];
    const std::array<float, 3> sizes{static_cast<float>(level.width), static_cast<float>(level.height),
                                     static_cast<float>(level.layers)};
    const auto length = [&](const std::array<float, 3>& d) {
        float sum = 0;
        for (unsigned k = 0; k < t.dimensions; ++k) {
            const float c = t.normalized_coordinates ? d[k] * sizes[k] : d[k];
            sum += c * c;
        }
        return std::sqrt(sum);
    };
    return std::log2(std::max(length(dx), length(dy)));
}

}  // namespace softgpu
