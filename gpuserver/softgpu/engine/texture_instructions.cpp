// tex, tld4, txq, suld, sust, suq.
#include "engine/texture_instructions.h"

#include <algorithm>

#include "engine/grid.h"
#include "engine/handlers.h"
#include "engine/texture.h"

namespace softgpu {
namespace {

class Guard final : public TexelGuard {
  public:
    Guard(Context& context, const Inst& inst) : context_(context), inst_(inst) {}
    void check(uint64_t address, uint64_t size) override {
        if (!accessible(context_, inst_, address, size, false)) {
            fault_address(context_, inst_, lane, address, size, "global");
        }
    }
    uint32_t lane = 0;

  private:
    Context& context_;
    const Inst& inst_;
};

// The lanes' textures: looked up again only where the handle changes.
class Lookup {
  public:
    Lookup(Context& c, const Inst& i) : context_(c), inst_(i), form_(texture_form(i.imm)) {}
    const Texture& of(uint32_t lane) {
        uint64_t handle = in<uint64_t>(context_, inst_.a)[lane];
        if (form_.by_reference) {
            if (!accessible(context_, inst_, handle, sizeof handle, false)) {
                fault_address(context_, inst_, lane, handle, sizeof handle, "global");
            }
            handle = *reinterpret_cast<const uint64_t*>(handle);
        }
        if (texture_ && handle == handle_) return *texture_;
        const AddressSpace* space = context_.ranges->space;
        texture_ = space ? space->texture(handle) : nullptr;
        handle_ = handle;
        const auto opcode = static_cast<ptx::Opcode>(inst_.kind);
        const bool surface = opcode == ptx::Opcode::suld || opcode == ptx::Opcode::sust || opcode == ptx::Opcode::suq;
        if (!texture_ || texture_->surface != surface) {
            texture_ = nullptr;
            fault(context_, inst_, Fault::Kind::illegal_instruction, lane,
                  std::string("'") + ptx::name_of(opcode) + "' with a handle of no " +
                      (surface ? "surface" : "texture") + " object");
        }
        return *texture_;
    }

  private:
    Context& context_;
    const Inst& inst_;
    const TextureForm form_;
    uint64_t handle_ = 0;
    std::shared_ptr<const Texture> texture_;
};

// The instruction's operands: [extra] destinations or stored values, coordinates, level or derivatives.
class Operands {
  public:
    Operands(const Context& c, const Inst& i) : context_(c), at_(c.code->extra.data() + i.extra) {}
    [[nodiscard]] int32_t slot(unsigned index) const { return at_[index]; }
    template <class T>
    [[nodiscard]] T get(unsigned index, uint32_t lane) const {
        return in<T>(context_, at_[index])[lane];
    }

  private:
    const Context& context_;
    const int32_t* at_;
};

TexturePosition position(const TextureForm& form, const Operands& operands, uint32_t lane) {
    TexturePosition p;
    unsigned next = form.values;
    p.integers = form.integers;
    if (form.layered) p.layer = operands.get<uint32_t>(next++, lane);
    for (unsigned k = 0; k < form.coordinates; ++k, ++next) {
        if (form.integers)
            p.index[k] = operands.get<int32_t>(next, lane);
        else
            p.at[k] = operands.get<float>(next, lane);
    }
    return p;
}

std::array<float, 3> vector_of(const Operands& operands, unsigned first, unsigned count, uint32_t lane) {
    std::array<float, 3> v{};
    for (unsigned k = 0; k < count; ++k) v[k] = operands.get<float>(first + k, lane);
    return v;
}

void put(Context& c, const Operands& operands, const TextureForm& form, uint32_t lane, const Texel& texel) {
    for (unsigned k = 0; k < form.values; ++k) {
        if (operands.slot(k) != nothing) out<uint32_t>(c, operands.slot(k))[lane] = texel[k];
    }
}

// The bytes of a surface that an instruction names, or null where they lie outside and may.
std::byte* surface_bytes(Context& c, const Inst& i, const Texture& t, const TextureForm& form, const Operands& operands,
                         uint32_t lane) {
    const TexturePosition p = position(form, operands, lane);
    const Texture::Level& level = t.levels[0];
    const int64_t size = int64_t{form.bytes} * form.values;
    const bool solid = form.coordinates == 3;
    int64_t x = p.index[0], y = p.index[1], z = solid ? p.index[2] : int64_t{p.layer};
    const int64_t row = int64_t{level.width} * t.texel_bytes();
    const auto inside = [&] {
        return x >= 0 && x + size <= row && y >= 0 && y < level.height && z >= 0 && z < level.layers;
    };
    if (!inside()) {
        if (form.outside == TextureForm::Outside::zero) return nullptr;
        if (form.outside == TextureForm::Outside::trap) {
            fault(c, i, Fault::Kind::illegal_address, lane,
                  "coordinates (" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) +
                      ") outside the surface");
        }
        x = std::clamp<int64_t>(x, 0, std::max<int64_t>(row - size, 0));
        y = std::clamp<int64_t>(y, 0, level.height - 1);
        z = std::clamp<int64_t>(z, 0, level.layers - 1);
        if (!inside()) return nullptr;  // wider than the whole row
    }
    if (x % size) fault_alignment(c, i, lane, static_cast<uint64_t>(x), static_cast<uint64_t>(size), "surface");
    return reinterpret_cast<std::byte*>(level.base + static_cast<uint64_t>(z) * level.layer_pitch +
                                        static_cast<uint64_t>(y) * level.pitch + static_cast<uint64_t>(x));
}

// The type of a channel as txq tells it: CL_SNORM_INT8 and its kin of OpenCL's headers.
uint32_t channel_type(const Texture& t) {
    constexpr uint32_t first = 0x10D0;
    switch (t.channel) {
        case Texture::Channel::u8:
            return first + (t.normalized_values ? 2 : 10);
        case Texture::Channel::s8:
            return first + (t.normalized_values ? 0 : 7);
        case Texture::Channel::u16:
            return first + (t.normalized_values ? 3 : 11);
        case Texture::Channel::s16:
            return first + (t.normalized_values ? 1 : 8);
        case Texture::Channel::u32:
            return first + 12;
        case Texture::Channel::s32:
            return first + 9;
        case Texture::Channel::f16:
            return first + 13;
        default:
            return first + 14;
    }
}

uint32_t answer(const Texture& t, TextureQuery query) {
    const Texture::Level& level = t.levels[0];
    switch (query) {
        case TextureQuery::width:
            return level.width;
        case TextureQuery::height:
            return t.dimensions > 1 ? level.height : 0;
        case TextureQuery::depth:
            return t.dimensions > 2 ? level.layers : 0;
        case TextureQuery::channel_type:
            return channel_type(t);
        case TextureQuery::channel_order:
            return 0x10B0 + (t.channels == 1 ? 0 : t.channels == 2 ? 2 : 5);  // CL_R, CL_RG, CL_RGBA
        case TextureQuery::normalized:
            return t.normalized_coordinates;
        case TextureQuery::layers:
            return t.layered ? level.layers : 0;
        case TextureQuery::levels:
            return static_cast<uint32_t>(t.levels.size());
    }
    return 0;
}

template <typename T>
void copy_lane(Context& c, int32_t slot, uint32_t lane, std::byte* place, uint32_t bytes, bool load) {
    if (slot == nothing) return;
    if (load) {
        T value{};
        std::memcpy(&value, place, bytes);
        out<T>(c, slot)[lane] = value;
    } else {
        std::memcpy(place, &in<T>(c, slot)[lane], bytes);
    }
}

// One value of `bytes` between a lane and memory.
void copy_value(Context& c, int32_t slot, uint32_t lane, std::byte* place, uint32_t bytes, bool load) {
    if (bytes == 8)
        copy_lane<uint64_t>(c, slot, lane, place, bytes, load);
    else if (bytes == 4)
        copy_lane<uint32_t>(c, slot, lane, place, bytes, load);
    else
        copy_lane<uint16_t>(c, slot, lane, place, bytes, load);
}

void surface_access(Context& c, const Inst& i, uint32_t mask, bool load) {
    const TextureForm form = texture_form(i.imm);
    const Operands operands(c, i);
    Lookup textures(c, i);
    std::array<std::byte, 8> zero{};
    for_lanes(mask, [&](uint32_t l) {
        std::byte* place = surface_bytes(c, i, textures.of(l), form, operands, l);
        for (unsigned k = 0; k < form.values; ++k) {
            if (place)
                copy_value(c, operands.slot(k), l, place + k * form.bytes, form.bytes, load);
            else if (load)
                copy_value(c, operands.slot(k), l, zero.data(), form.bytes, true);
        }
    });
}

}  // namespace

void texture_sample(Context& c, const Inst& i, uint32_t mask) {
    const TextureForm form = texture_form(i.imm);
    const Operands operands(c, i);
    Lookup textures(c, i);
    Guard guard(c, i);
    const unsigned more = form.values + form.layered + form.coordinates;
    for_lanes(mask, [&](uint32_t l) {
        guard.lane = l;
        const Texture& t = textures.of(l);
        float level = 0;
        if (form.level == TextureForm::Level::given) {
            level = form.integers ? static_cast<float>(operands.get<int32_t>(more, l)) : operands.get<float>(more, l);
        } else if (form.level == TextureForm::Level::of_gradients) {
            level = level_of(t, vector_of(operands, more, form.coordinates, l),
                             vector_of(operands, more + form.coordinates, form.coordinates, l));
        }
        put(c, operands, form, l, sample(t, position(form, operands, l), level, guard));
    });
}

void texture_gather(Context& c, const Inst& i, uint32_t mask) {
    const TextureForm form = texture_form(i.imm);
    const Operands operands(c, i);
    Lookup textures(c, i);
    Guard guard(c, i);
    for_lanes(mask, [&](uint32_t l) {
        guard.lane = l;
        put(c, operands, form, l, gather(textures.of(l), position(form, operands, l), form.component, guard));
    });
}

void texture_query(Context& c, const Inst& i, uint32_t mask) {
    Lookup textures(c, i);
    const auto query = static_cast<TextureQuery>(texture_form(i.imm).component);
    for_lanes(mask, [&](uint32_t l) { out<uint32_t>(c, i.d)[l] = answer(textures.of(l), query); });
}

void surface_load(Context& c, const Inst& i, uint32_t mask) {
    surface_access(c, i, mask, true);
}

void surface_store(Context& c, const Inst& i, uint32_t mask) {
    surface_access(c, i, mask, false);
}

}  // namespace softgpu
