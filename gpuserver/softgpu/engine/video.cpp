// SIMD video instructions: nvcc makes __vabsdiffu4, __vavgs2, __vsads4 and their like of them.
#include <bit>
#include <cstring>

#include "engine/arithmetic/video.h"
#include "engine/context.h"
#include "engine/lower.h"

namespace softgpu {

namespace {

using arithmetic::Video;
using arithmetic::VideoOperation;

// What an instruction keeps of a `Video`: it has room for 64 bits.
struct Packed {
    uint32_t operation : 3, comparison : 3, bytes : 1, a_signed : 1, b_signed : 1, d_signed : 1, saturate : 1,
        accumulate : 1, mask : 4, unused : 16;
    uint16_t a_from, b_from;  // four bits an element
};
static_assert(sizeof(Packed) == sizeof(int64_t));

void video(Context& c, const Inst& i, uint32_t mask) {
    const auto packed = std::bit_cast<Packed>(i.imm);
    Video v;
    v.operation = static_cast<VideoOperation>(packed.operation);
    v.comparison = static_cast<arithmetic::Comparison>(packed.comparison);
    v.bytes = packed.bytes;
    v.a_signed = packed.a_signed;
    v.b_signed = packed.b_signed;
    v.d_signed = packed.d_signed;
    v.saturate = packed.saturate;
    v.accumulate = packed.accumulate;
    v.mask = packed.mask;
    for (uint32_t k = 0; k < 4; ++k) {
        v.a_from[k] = packed.a_from >> (4 * k) & 7;
        v.b_from[k] = packed.b_from >> (4 * k) & 7;
    }
    auto* d = out<uint32_t>(c, i.d);
    const auto *a = in<uint32_t>(c, i.a), *b = in<uint32_t>(c, i.b), *e = in<uint32_t>(c, i.c);
    for_lanes(mask, [&](uint32_t l) { d[l] = arithmetic::video(v, a[l], b[l], e[l]); });
}

struct Form {
    ptx::Opcode opcode;
    VideoOperation operation;
    bool bytes;
};
constexpr Form forms[] = {
    {ptx::Opcode::vadd2, VideoOperation::add, false},         {ptx::Opcode::vadd4, VideoOperation::add, true},
    {ptx::Opcode::vsub2, VideoOperation::sub, false},         {ptx::Opcode::vsub4, VideoOperation::sub, true},
    {ptx::Opcode::vavrg2, VideoOperation::avrg, false},       {ptx::Opcode::vavrg4, VideoOperation::avrg, true},
    {ptx::Opcode::vabsdiff2, VideoOperation::absdiff, false}, {ptx::Opcode::vabsdiff4, VideoOperation::absdiff, true},
    {ptx::Opcode::vmin2, VideoOperation::min, false},         {ptx::Opcode::vmin4, VideoOperation::min, true},
    {ptx::Opcode::vmax2, VideoOperation::max, false},         {ptx::Opcode::vmax4, VideoOperation::max, true},
    {ptx::Opcode::vset2, VideoOperation::set, false},         {ptx::Opcode::vset4, VideoOperation::set, true},
};

// `.h32` or `.b7654`, the last digit for the lowest element; 0 for none. How many digits there are is not limited.
uint16_t digits(std::string_view selector) {
    uint16_t all = 0;
    for (char digit : selector.substr(2)) all = static_cast<uint16_t>(all << 4 | (digit - '0'));
    return all;
}

}  // namespace

bool Lowering::video_instruction(const Instruction& i, const Modifiers& m) {
    const Form* form = nullptr;
    for (const Form& one : forms)
        if (one.opcode == i.opcode) form = &one;
    if (!form) return false;
    const bool set = form->operation == VideoOperation::set;
    const auto& types = m.types();
    if (types.size() != (set ? 2 : 3)) fail(set ? "expected two types" : "expected three types");
    for (Type type : types)
        if (type != Type::u32 && type != Type::s32) fail("the types are .u32 or .s32");
    const uint32_t count = form->bytes ? 4 : 2;
    auto selector = [&](size_t index, uint32_t fewest, uint32_t highest, uint16_t otherwise) -> uint16_t {
        const std::string_view text = operand(index).selector;
        if (text.empty()) return otherwise;
        const size_t given = text.size() - 2;
        if (text[1] != (form->bytes ? 'b' : 'h') || given < fewest || given > count) fail("no such selector");
        for (char digit : text.substr(2))
            if (static_cast<uint32_t>(digit - '0') > highest) fail("no such selector");
        return digits(text);
    };
    Packed packed{};
    packed.operation = static_cast<uint32_t>(form->operation);
    packed.bytes = form->bytes;
    packed.d_signed = !set && ptx::is_signed(types[0]);
    packed.a_signed = ptx::is_signed(types[types.size() - 2]);
    packed.b_signed = ptx::is_signed(types.back());
    packed.saturate = m.has(".sat");
    packed.accumulate = m.has(".add");
    if (packed.saturate && (packed.accumulate || set)) fail("no such form of the instruction");
    if (set) {
        static constexpr std::string_view comparisons[] = {".eq", ".ne", ".lt", ".le", ".gt", ".ge"};
        size_t which = 0;
        while (which < 6 && !m.has(comparisons[which])) ++which;
        if (which == 6) fail("expected a comparison such as .eq");
        packed.comparison = static_cast<uint32_t>(which);
    }
    packed.a_from = selector(1, count, 2 * count - 1, form->bytes ? 0x3210 : 0x10);
    packed.b_from = selector(2, count, 2 * count - 1, form->bytes ? 0x7654 : 0x32);
    // The destination's names each element that is computed, once and from the highest down.
    uint32_t left = selector(0, 1, count - 1, form->bytes ? 0x3210 : 0x10);
    const std::string_view mask = operand(0).selector;
    for (size_t k = 0; k < (mask.empty() ? count : mask.size() - 2); ++k, left >>= 4) {
        const uint32_t bit = 1U << (left & 15);
        if (packed.mask >= bit) fail("no such selector");
        packed.mask = (packed.mask | bit) & 15;
    }
    const int32_t a = read(operand(1), Type::b32), b = read(operand(2), Type::b32), c = read(operand(3), Type::b32);
    emit(video, write(operand(0), Type::b32), a, b, c).inst.imm = std::bit_cast<int64_t>(packed);
    return true;
}

}  // namespace softgpu
