// Lowering of texture and surface instructions. Forms that this file does not know are lowered as instructions that
// the device does not have: independent samplers, multisampled images, depth comparison, offsets.
#include "engine/lower.h"
#include "engine/texture_instructions.h"

namespace softgpu {

using ptx::Opcode;

namespace {

struct Geometry {
    std::string_view name;
    uint8_t coordinates;
    bool layered;
};
constexpr Geometry geometries[] = {{".1d", 1, false}, {".2d", 2, false},   {".3d", 3, false},  {".a1d", 1, true},
                                   {".a2d", 2, true}, {".cube", 3, false}, {".acube", 3, true}};

constexpr std::pair<std::string_view, TextureQuery> queries[] = {{".width", TextureQuery::width},
                                                                 {".height", TextureQuery::height},
                                                                 {".depth", TextureQuery::depth},
                                                                 {".channel_data_type", TextureQuery::channel_type},
                                                                 {".channel_order", TextureQuery::channel_order},
                                                                 {".normalized_coords", TextureQuery::normalized},
                                                                 {".array_size", TextureQuery::layers},
                                                                 {".num_mipmap_levels", TextureQuery::levels}};

}  // namespace

// The handle of the object, or where it is: a variable of type .texref or .surfref holds it.
int32_t Lowering::texture_handle(const Operand& base, bool& by_reference) {
    by_reference = base.kind != Operand::Kind::reg;
    if (!by_reference) return read(base, Type::b64);
    if (base.kind != Operand::Kind::variable && base.kind != Operand::Kind::symbol) fail("expected a texture");
    return read_address(base, 8);
}

bool Lowering::texture(const Instruction& i, const Modifiers& m) {
    const bool query = i.opcode == Opcode::txq || i.opcode == Opcode::suq;
    const bool store = i.opcode == Opcode::sust, load = i.opcode == Opcode::suld;
    TextureForm form;
    if (query) {
        const std::pair<std::string_view, TextureQuery>* asked = nullptr;
        for (const auto& one : queries)
            if (m.has(one.first)) asked = &one;
        const Operand& where = operand(1);
        if (!asked || m.has(".level") || where.kind != Operand::Kind::address || where.count != 1) return false;
        const int32_t a = texture_handle(f_->pool[where.index], form.by_reference);
        form.component = static_cast<uint8_t>(asked->second);
        Emitted& e = emit(texture_query, write(operand(0), Type::b32), a);
        e.inst.imm = packed(form);
        e.inst.kind = static_cast<uint8_t>(i.opcode);
        return true;
    }

    const Geometry* geometry = nullptr;
    for (const Geometry& one : geometries)
        if (m.has(one.name)) geometry = &one;
    const Operand& where = operand(store ? 0 : 1);
    const Operand& values = operand(store ? 1 : 0);
    // [object, coordinates]; a third item would be a sampler of its own.
    if (!geometry || where.kind != Operand::Kind::other || where.count != 2 || values.second != Operand::no_second)
        return false;
    form.coordinates = geometry->coordinates;
    form.layered = geometry->layered;

    const Type last = m.type();
    Type value_type = Type::b32;
    size_t extra_operands = 0;
    if (load || store) {
        const uint32_t bytes = ptx::bytes_of(last);
        if (bytes == 0 || bytes > 8 || !m.has(".b") || form.coordinates + form.layered > 3 || m.has(".cube") ||
            m.has(".acube"))
            return false;
        form.integers = true;
        form.bytes = static_cast<uint8_t>(bytes) & 15;
        value_type = last;
        form.outside = m.has(".clamp")  ? TextureForm::Outside::clamp
                       : m.has(".zero") ? TextureForm::Outside::zero
                                        : TextureForm::Outside::trap;
    } else {
        if (m.types().size() != 2 || ptx::bytes_of(m.types()[0]) != 4 || m.types()[0] == Type::f16x2) return false;
        form.integers = last == Type::s32;
        if (m.has(".level")) form.level = TextureForm::Level::given, extra_operands = 1;
        if (m.has(".grad")) form.level = TextureForm::Level::of_gradients, extra_operands = 2;
        if (form.integers && extra_operands == 2) return false;
        constexpr std::string_view components[] = {".r", ".g", ".b", ".a"};
        for (uint8_t k = 0; k < 4; ++k)
            if (i.opcode == Opcode::tld4 && m.has(components[k])) form.component = k;
    }
    if (operand_count() != 2 + extra_operands) return false;

    const auto list_of = [&](const Operand& o) {
        return o.kind == Operand::Kind::vector ? items(o) : std::span<const Operand>{&o, 1};
    };
    const auto value_list = list_of(values);
    const auto coordinates = list_of(f_->pool[where.index + 1]);
    const size_t wanted = size_t{form.coordinates} + form.layered;
    if (value_list.size() != (load || store ? m.vector() : 4) || coordinates.size() < wanted)
        fail("a vector has the wrong length");
    form.values = static_cast<uint8_t>(value_list.size());
    std::vector<int32_t> slots;
    for (const Operand& o : value_list) {
        if (store)
            slots.push_back(read(o, value_type));
        else
            slots.push_back(o.kind == Operand::Kind::sink ? nothing : write(o, value_type));
    }
    const Type coordinate_type = form.integers ? Type::s32 : Type::f32;
    for (size_t k = 0; k < wanted; ++k) {
        slots.push_back(read(coordinates[k], form.layered && k == 0 ? Type::b32 : coordinate_type));
    }
    for (size_t k = 0; k < extra_operands; ++k) {
        const auto list = list_of(operand(2 + k));
        const size_t count = form.level == TextureForm::Level::given ? 1 : form.coordinates;
        if (list.size() < count) fail("a vector has the wrong length");
        const bool number = form.level == TextureForm::Level::given && form.integers;
        for (size_t n = 0; n < count; ++n) slots.push_back(read(list[n], number ? Type::s32 : Type::f32));
    }
    const int32_t a = texture_handle(f_->pool[where.index], form.by_reference);
    const Handler run = store                      ? surface_store
                        : load                     ? surface_load
                        : i.opcode == Opcode::tld4 ? texture_gather
                                                   : texture_sample;
    Emitted& e = emit(run, nothing, a);
    e.inst.imm = packed(form);
    e.inst.kind = static_cast<uint8_t>(i.opcode);
    e.inst.cache = next_cache_++;
    e.apart = true;
    const auto count = static_cast<uint32_t>(slots.size());
    std::copy(slots.begin(), slots.end(), extras(e, count, store ? 0 : (1U << form.values) - 1));
    return true;
}

}  // namespace softgpu
