// Extended-precision arithmetic: the carry flag of each lane (PTX ISA, "Extended-Precision Integer Arithmetic").
#include "engine/arithmetic/integer.h"
#include "engine/context.h"
#include "engine/handlers.h"

namespace softgpu {

namespace {

enum class Form { add, sub, mad_lo, mad_hi };

template <Form F, typename T>
void carry_step(Context& c, const Inst& i, uint32_t mask) {
    T* d = out<T>(c, i.d);
    const T* a = in<T>(c, i.a);
    const T* b = in<T>(c, i.b);
    const T* e = i.c == nothing ? nullptr : in<T>(c, i.c);
    const uint32_t carry = i.kind & 1 ? c.carry : 0;
    uint32_t result = 0;
    for_lanes(mask, [&](uint32_t l) {
        const bool carry_in = (carry & lane_bit[l]) != 0;
        arithmetic::WithCarry<T> r;
        if constexpr (F == Form::add) r = arithmetic::add_carry(a[l], b[l], carry_in);
        if constexpr (F == Form::sub) r = arithmetic::sub_carry(a[l], b[l], carry_in);
        if constexpr (F == Form::mad_lo) r = arithmetic::mad_lo_carry(a[l], b[l], e[l], carry_in);
        if constexpr (F == Form::mad_hi) r = arithmetic::mad_hi_carry(a[l], b[l], e[l], carry_in);
        d[l] = r.value;
        if (r.carry) result |= lane_bit[l];
    });
    if (i.kind & 2) c.carry = (c.carry & ~mask) | result;
}

template <typename T>
Handler find(ptx::Opcode op, bool high) {
    switch (op) {
        case ptx::Opcode::add:
            return &carry_step<Form::add, T>;
        case ptx::Opcode::sub:
            return &carry_step<Form::sub, T>;
        case ptx::Opcode::mad:
            return high ? &carry_step<Form::mad_hi, T> : &carry_step<Form::mad_lo, T>;
        default:
            return nullptr;
    }
}

}  // namespace

Handler find_carry(ptx::Opcode op, ptx::Type type, bool high) {
    switch (type) {
        case ptx::Type::u32:
        case ptx::Type::b32:
            return find<uint32_t>(op, high);
        case ptx::Type::s32:
            return find<int32_t>(op, high);
        case ptx::Type::u64:
        case ptx::Type::b64:
            return find<uint64_t>(op, high);
        case ptx::Type::s64:
            return find<int64_t>(op, high);
        default:
            return nullptr;
    }
}

}  // namespace softgpu
