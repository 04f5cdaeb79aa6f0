"""cvt: the matrix of integer and floating types with every rounding, .ftz and .sat; the narrow formats; cvt.pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import ptx_formats as exact
from ptx_declare import LANE_TYPES, Instruction
from ptx_family_compare import signed
from ptx_family_float import flag
from ptx_family_integer import clamp, value
from ptx_formats import BF16, F16, F32, FORMATS, Format
from ptx_operands import WIDTHS

INTEGERS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
MODES = ("rn", "rz", "rm", "rp")


def cvt_lane(to: str, mode: str, ftz: str, sat: str) -> str:
    return f"cvt<{LANE_TYPES[to]}, Rounding::{mode}, {flag(ftz)}, {flag(sat)}>(a)"


def fits(source: str, to: str) -> bool:
    """Whether every value of `source` is one of `to`."""
    spare = WIDTHS[to] - WIDTHS[source]
    return spare >= 0 if source[0] == to[0] else source[0] == "u" and spare > 0


def has_cvt(kind: str, other: str) -> bool:
    """PTX converts bf16 to and from integers of 16 bits and more only."""
    return kind != "bf16" or WIDTHS[other] > 8


def between_integers() -> Iterator[Instruction]:
    for to, source, sat in product(INTEGERS, INTEGERS, ("", ".sat")):
        mask = (1 << WIDTHS[to]) - 1
        if sat and fits(source, to):
            continue  # PTX allows .sat only where it can make a difference

        def convert(a: int, to: str = to, source: str = source, sat: str = sat, mask: int = mask) -> int:
            number = value(a, source)
            return (clamp(number, to) if sat else number) & mask

        yield Instruction(f"cvt{sat}.{to}.{source}", to, (source,), convert, cvt_lane(to, "rn", "", sat))


def to_integers() -> Iterator[Instruction]:
    for to, source, mode in product(INTEGERS, FLOATS, MODES):
        if not has_cvt(source, to):
            continue
        form = FORMATS[source]
        sats = ("", ".sat") if mode == "rz" and source != "bf16" else ("",)
        for ftz, sat in product(("", ".ftz") if source == "f32" else ("",), sats):

            def convert(a: int, to: str = to, form: Format = form, mode: str = mode, ftz: str = ftz) -> int:
                number = exact.to_integer(form, form.flush(a) if ftz else a, mode)
                width = WIDTHS[to]
                if number is None:  # PTX ISA "cvt": NaN
                    return 0 if form.width < 64 and width < 64 else 1 << (width - 1)
                return clamp(number, to) & ((1 << width) - 1)

            yield Instruction(
                f"cvt.{mode}i{ftz}{sat}.{to}.{source}", to, (source,), convert, cvt_lane(to, mode, ftz, sat)
            )


def from_integers() -> Iterator[Instruction]:
    for to, source, mode in product(FLOATS, INTEGERS, MODES):
        if not has_cvt(to, source):
            continue
        form = FORMATS[to]
        for sat in ("", ".sat") if mode in ("rn", "rp") and to != "bf16" else ("",):

            def convert(a: int, form: Format = form, source: str = source, mode: str = mode, sat: str = sat) -> int:
                result = exact.from_integer(form, value(a, source), mode)
                return form.saturate(result) if sat else result

            yield Instruction(f"cvt.{mode}{sat}.{to}.{source}", to, (source,), convert, cvt_lane(to, mode, "", sat))


def between_floats() -> Iterator[Instruction]:
    for to, source in product(FLOATS, FLOATS):
        target, origin = FORMATS[to], FORMATS[source]
        narrows = target.mantissa_bits < origin.mantissa_bits or target.exponent_bits < origin.exponent_bits
        single = "f32" in (to, source)
        for mode, ftz, sat in product(MODES if narrows else ("",), ("", ".ftz") if single else ("",), ("", ".sat")):
            if sat and "bf16" in (to, source):
                continue
            if to == source and not ftz and not sat:
                continue

            def convert(
                a: int,
                target: Format = target,
                origin: Format = origin,
                mode: str = mode,
                ftz: str = ftz,
                sat: str = sat,
            ) -> int:
                if ftz and origin is F32:
                    a = F32.flush(a)
                if target is origin and origin.is_nan(a):
                    result = target.choose_nan(a)
                else:
                    result = exact.convert(target, origin, a, mode or "rn")
                if ftz and target is F32:
                    result = F32.flush(result)
                return target.saturate(result) if sat else result

            rounding = f".{mode}" if mode else ""
            yield Instruction(
                f"cvt{rounding}{ftz}{sat}.{to}.{source}", to, (source,), convert, cvt_lane(to, mode or "rn", ftz, sat)
            )
    # To an integral value of the same type.
    for kind, mode in product(FLOATS, MODES):
        form = FORMATS[kind]
        for ftz, sat in product(("", ".ftz") if kind == "f32" else ("",), ("", ".sat") if kind != "bf16" else ("",)):

            def integral(a: int, form: Format = form, mode: str = mode, ftz: str = ftz, sat: str = sat) -> int:
                a = form.flush(a) if ftz else a
                number = exact.to_integer(form, a, mode)
                if number is None:
                    result = form.choose_nan(a)
                elif form.decode(a).infinite:
                    result = a
                else:
                    result = form.encode(bool(a & form.sign_bit), abs(number), 0, "rn")
                return form.saturate(result) if sat else result

            lane = f"cvt_integral<Rounding::{mode}, {flag(ftz)}, {flag(sat)}>(a)"
            yield Instruction(f"cvt.{mode}i{ftz}{sat}.{kind}.{kind}", kind, (kind,), integral, lane)


def halves() -> Iterator[Instruction]:
    """cvt.{f16,bf16}{x2}.f32 with .relu and .satfinite."""
    for form, mode, relu, finite in product((F16, BF16), ("rn", "rz"), ("", ".relu"), ("", ".satfinite")):

        def convert(a: int, form: Format = form, mode: str = mode, relu: str = relu, finite: str = finite) -> int:
            result = exact.convert(form, F32, a, mode)
            if form.is_nan(result):
                return result
            if finite and result & ~form.sign_bit == form.infinity:
                result -= 1
            return 0 if relu and result & form.sign_bit else result

        name = "f16" if form is F16 else "bf16"
        modifiers = f"Rounding::{mode}, {flag(relu)}, {flag(finite)}"
        if relu or finite:  # the plain ones are in the matrix
            yield Instruction(
                f"cvt.{mode}{relu}{finite}.{name}.f32", name, ("f32",), convert, f"cvt_half<{name}, {modifiers}>(a)"
            )
        yield Instruction(
            f"cvt.{mode}{relu}{finite}.{name}x2.f32",
            name + "x2",
            ("f32", "f32"),
            lambda a, b, f=convert: f(a) << 16 | f(b),
            f"cvt_half_pair<{name}x2, {modifiers}>(a, b)",
        )


TF32 = Format("tf32", 8, 10)


def tf32() -> Iterator[Instruction]:
    variants = [("rna", "", ""), ("rna", "", ".satfinite")]
    variants += list(product(("rn", "rz"), ("", ".relu"), ("", ".satfinite")))
    for mode, relu, finite in variants:

        def convert(a: int, mode: str = mode, relu: str = relu, finite: str = finite) -> int:
            if F32.is_nan(a):
                return F32.canonical_nan
            result = exact.convert(TF32, F32, a, mode)
            if finite and result & ~TF32.sign_bit == TF32.infinity:
                result -= 1
            return 0 if relu and result & TF32.sign_bit else result << 13

        yield Instruction(
            f"cvt.{mode}{finite}{relu}.tf32.f32",
            "b32",
            ("f32",),
            convert,
            f"cvt_tf32<Rounding::{mode}, {flag(relu)}, {flag(finite)}>(a)",
        )


# name: exponent bits, mantissa bits, largest finite code, code of NaN (the largest number where there is no NaN)
MINI = {
    "e4m3": (4, 3, 0x7E, 0x7F),
    "e5m2": (5, 2, 0x7B, 0x7F),
    "e2m3": (2, 3, 0x1F, 0x1F),
    "e3m2": (3, 2, 0x1F, 0x1F),
    "e2m1": (2, 1, 7, 7),
}


def mini_encode(name: str, source: Format, relu: bool) -> Callable[[int], int]:
    exponent_bits, mantissa_bits, largest, nan = MINI[name]
    # One more exponent bit than the format has: codes above the largest then order as they should before clamping.
    roomy = Format(name, exponent_bits + 1, mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1

    def encode(bits: int) -> int:
        x = source.decode(bits)
        if x.nan:
            return nan
        sign = 1 << (exponent_bits + mantissa_bits) if x.negative else 0
        if relu and sign:
            return 0
        if x.infinite:
            return sign | largest
        # Scale by the difference of the two biases, so that subnormals fall where the narrow format has them.
        code = roomy.encode(False, x.significand, x.exponent + bias - roomy.bias, "rn")
        return sign | min(code, largest)

    return encode


def mini_decode(name: str, relu: bool) -> Callable[[int], int]:
    exponent_bits, mantissa_bits, largest, _ = MINI[name]
    bias = (1 << (exponent_bits - 1)) - 1

    def decode(code: int) -> int:
        sign, magnitude = (
            code >> (exponent_bits + mantissa_bits) & 1,
            code & ((1 << (exponent_bits + mantissa_bits)) - 1),
        )
        if magnitude > largest:
            infinite = name == "e5m2" and magnitude == largest + 1
            if not infinite:
                return F16.canonical_nan
            return 0 if sign and relu else sign << 15 | F16.infinity
        field, fraction = magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1)
        significand = fraction | (1 << mantissa_bits if field else 0)
        result = F16.encode(bool(sign), significand, max(field, 1) - bias - mantissa_bits, "rn")
        return 0 if sign and relu else result

    return decode


def narrow_formats() -> Iterator[Instruction]:
    for name, relu in product(MINI, ("", ".relu")):
        width = sum(MINI[name][:2]) + 1
        lane = 4 if width == 4 else 8
        mask = (1 << width) - 1
        encode, decode = mini_encode(name, F32, bool(relu)), mini_decode(name, bool(relu))
        opcode = f"cvt.rn.satfinite{relu}.{name}x2.f32"
        byte = name == "e2m1"
        to_byte = {"body": ".reg .b8 %byte;\n{op} %byte, {a}, {b};\ncvt.u16.u8 {d}, %byte;"} if byte else {}
        from_byte = {"body": ".reg .b8 %byte;\ncvt.u8.u16 %byte, {a};\n{op} {d}, %byte;"} if byte else {}
        yield Instruction(
            opcode,
            "b16",
            ("f32", "f32"),
            lambda a, b, f=encode, lane=lane: f(a) << lane | f(b),
            f"uint16_t(encode_pair<{name}, {flag(relu)}>(a, b))",
            **to_byte,
        )
        if not byte and name in ("e4m3", "e5m2"):
            half = mini_encode(name, F16, bool(relu))
            yield Instruction(
                f"cvt.rn.satfinite{relu}.{name}x2.f16x2",
                "b16",
                ("f16x2",),
                lambda a, f=half: f(a >> 16) << 8 | f(a & 0xFFFF),
                f"uint16_t(encode_pair<{name}, {flag(relu)}>(a))",
            )
        yield Instruction(
            f"cvt.rn{relu}.f16x2.{name}x2",
            "f16x2",
            ("b16",),
            lambda a, f=decode, lane=lane, m=mask: f(a >> lane & m) << 16 | f(a & m),
            f"decode_pair<{name}, {flag(relu)}>(a)",
            **from_byte,
        )
    for mode, finite in product(("rz", "rp"), ("", ".satfinite")):

        def scale(bits: int, mode: str = mode, finite: str = finite) -> int:
            """The exponent of |a|, rounded down or up to a power of two, biased by 127."""
            x = F32.decode(bits)
            if x.nan:
                return 0xFF
            if x.infinite:
                return 0xFE if finite else 0xFF
            if x.zero:
                return 0
            top = x.significand.bit_length() - 1
            exponent = top + x.exponent
            if mode == "rp" and x.significand != 1 << top:
                exponent += 1
            code = max(exponent + 127, 0)
            return min(code, 0xFE if finite else 0xFF)

        yield Instruction(
            f"cvt.{mode}{finite}.ue8m0x2.f32",
            "b16",
            ("f32", "f32"),
            lambda a, b, f=scale: f(a) << 8 | f(b),
            f"uint16_t(encode_ue8m0_pair<Rounding::{mode}, {flag(finite)}>(a, b))",
        )
        yield Instruction(
            f"cvt.{mode}{finite}.ue8m0x2.bf16x2",
            "b16",
            ("bf16x2",),
            lambda a, f=scale: f(a >> 16 << 16) << 8 | f(a << 16 & 0xFFFFFFFF),
            f"uint16_t(encode_ue8m0_pair<Rounding::{mode}, {flag(finite)}>(a))",
        )

    def power(code: int) -> int:
        return BF16.canonical_nan if code == 0xFF else BF16.encode(False, 1, code - 127, "rn")

    yield Instruction("cvt.rn.bf16x2.ue8m0x2", "bf16x2", ("b16",), packed_bytes(power), "decode_ue8m0_pair(a)")


def packed_bytes(one: Callable[[int], int]) -> Callable[[int], int]:
    return lambda a: one(a >> 8) << 16 | one(a & 0xFF)


def packs() -> Iterator[Instruction]:
    for kind, width in (("u16", 16), ("s16", 16), ("u8", 8), ("s8", 8), ("u4", 4), ("s4", 4), ("u2", 2), ("s2", 2)):
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind[0] == "s" else (0, (1 << width) - 1)

        def both(a: int, b: int, c: int = 0, width: int = width, low: int = low, high: int = high) -> int:
            a, b = (max(low, min(signed(v, 32), high)) & ((1 << width) - 1) for v in (a, b))
            return ((c << 2 * width if width < 16 else 0) | a << width | b) & 0xFFFFFFFF

        is_signed = flag((kind[0] == "s" and "s") or "")
        if width == 16:
            yield Instruction(
                f"cvt.pack.sat.{kind}.s32", "b32", ("s32", "s32"), both, f"cvt_pack<16, {is_signed}>(a, b)"
            )
        else:
            yield Instruction(
                f"cvt.pack.sat.{kind}.s32.b32",
                "b32",
                ("s32", "s32", "b32"),
                both,
                f"cvt_pack<{width}, {is_signed}>(a, b, c)",
            )


INSTRUCTIONS = [
    *between_integers(),
    *to_integers(),
    *from_integers(),
    *between_floats(),
    *halves(),
    *tf32(),
    *narrow_formats(),
    *packs(),
]
