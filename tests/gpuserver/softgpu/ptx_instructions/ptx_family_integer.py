"""Integer arithmetic: add to rem, the 24-bit and packed forms, carry chains, dot products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from ptx_declare import Instruction
from ptx_family_compare import signed
from ptx_family_float import packed
from ptx_operands import WIDTHS

KINDS = ("u16", "u32", "u64", "s16", "s32", "s64")


def value(bits: int, kind: str) -> int:
    return signed(bits, WIDTHS[kind]) if kind[0] == "s" else bits


def on_integers(operation: Callable[..., int], *kinds: str, width: int) -> Callable[..., int]:
    """An operation on Python integers as one on bit patterns that wraps to `width`."""

    def reference(*operands: int) -> int:
        return operation(*(value(bits, kind) for bits, kind in zip(operands, kinds, strict=True))) & ((1 << width) - 1)

    return reference


def clamp(number: int, kind: str) -> int:
    width = WIDTHS[kind]
    if kind[0] == "s":
        return max(-(1 << (width - 1)), min(number, (1 << (width - 1)) - 1))
    return max(0, min(number, (1 << width) - 1))


def quotient(a: int, b: int) -> int:
    return -1 if b == 0 else abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


def remainder(a: int, b: int) -> int:
    return -1 if b == 0 else abs(a) % abs(b) * (-1 if a < 0 else 1)


def simple() -> Iterator[Instruction]:
    two: dict[str, Callable[[int, int], int]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul.lo": lambda a, b: a * b,
        "div": quotient,
        "rem": remainder,
        "min": min,
        "max": max,
    }
    for (name, operation), kind in product(two.items(), KINDS):
        width = WIDTHS[kind]
        lane = f"{name.replace('.', '_')}(a, b)"
        yield Instruction(f"{name}.{kind}", kind, (kind, kind), on_integers(operation, kind, kind, width=width), lane)
    for kind in KINDS:
        width = WIDTHS[kind]
        high = on_integers(lambda a, b, w=width: a * b >> w, kind, kind, width=width)
        yield Instruction(f"mul.hi.{kind}", kind, (kind, kind), high, "mul_hi(a, b)")
        yield Instruction(
            f"mad.lo.{kind}",
            kind,
            (kind,) * 3,
            on_integers(lambda a, b, c: a * b + c, *(kind,) * 3, width=width),
            "mad_lo(a, b, c)",
        )
        yield Instruction(
            f"mad.hi.{kind}",
            kind,
            (kind,) * 3,
            on_integers(lambda a, b, c, w=width: (a * b >> w) + c, *(kind,) * 3, width=width),
            "mad_hi(a, b, c)",
        )
        yield Instruction(
            f"sad.{kind}",
            kind,
            (kind,) * 3,
            on_integers(lambda a, b, c: abs(a - b) + c, *(kind,) * 3, width=width),
            "sad(a, b, c)",
        )
        if width < 64:
            wide = f"{kind[0]}{2 * width}"
            yield Instruction(
                f"mul.wide.{kind}",
                wide,
                (kind, kind),
                on_integers(lambda a, b: a * b, kind, kind, width=2 * width),
                "mul_wide(a, b)",
            )
            yield Instruction(
                f"mad.wide.{kind}",
                wide,
                (kind, kind, wide),
                on_integers(lambda a, b, c: a * b + c, kind, kind, wide, width=2 * width),
                "mad_wide(a, b, c)",
            )
        if kind[0] == "s":
            yield Instruction(f"abs.{kind}", kind, (kind,), on_integers(abs, kind, width=width), "abs(a)")
            yield Instruction(f"neg.{kind}", kind, (kind,), on_integers(lambda a: -a, kind, width=width), "neg(a)")
    s32 = ("s32", "s32")
    for name, operation in (("add", two["add"]), ("sub", two["sub"])):
        saturated = on_integers(lambda a, b, f=operation: clamp(f(a, b), "s32"), *s32, width=32)
        yield Instruction(f"{name}.sat.s32", "s32", s32, saturated, f"{name}<true>(a, b)")
    yield Instruction(
        "mad.hi.sat.s32",
        "s32",
        ("s32",) * 3,
        on_integers(lambda a, b, c: clamp((a * b >> 32) + c, "s32"), *("s32",) * 3, width=32),
        "mad_hi<true>(a, b, c)",
    )
    for name, function in (("min", min), ("max", max)):
        relu = on_integers(lambda a, b, f=function: max(0, f(a, b)), *s32, width=32)
        yield Instruction(f"{name}.relu.s32", "s32", s32, relu, f"{name}<true>(a, b)")


def packed_forms() -> Iterator[Instruction]:
    for kind in ("s16", "u16"):
        pair = kind + "x2"
        for name, function in (("add", lambda a, b: a + b), ("min", min), ("max", max)):
            one = on_integers(function, kind, kind, width=16)
            yield Instruction(f"{name}.{pair}", pair, (pair, pair), packed(one, 16), f"{name}(a, b)")
            if kind == "s16" and name != "add":
                relu = on_integers(lambda a, b, f=function: max(0, f(a, b)), kind, kind, width=16)
                yield Instruction(f"{name}.relu.{pair}", pair, (pair, pair), packed(relu, 16), f"{name}<true>(a, b)")


def low24(number: int, kind: str) -> int:
    return value((number & 0xFFFFFF) << 8, "s32") >> 8 if kind[0] == "s" else number & 0xFFFFFF


def multiply24() -> Iterator[Instruction]:
    for kind, (part, shift) in product(("u32", "s32"), (("lo", 0), ("hi", 16))):

        def times(a: int, b: int, kind: str = kind, shift: int = shift) -> int:
            return low24(a, kind) * low24(b, kind) >> shift

        yield Instruction(
            f"mul24.{part}.{kind}", kind, (kind, kind), on_integers(times, kind, kind, width=32), f"mul24_{part}(a, b)"
        )
        yield Instruction(
            f"mad24.{part}.{kind}",
            kind,
            (kind,) * 3,
            on_integers(lambda a, b, c, f=times: f(a, b) + c, *(kind,) * 3, width=32),
            f"mad24_{part}(a, b, c)",
        )

    def saturated(a: int, b: int, c: int) -> int:
        # The upper 32 of the 48 bits, as a 32-bit number, plus c.
        return clamp(value((low24(a, "s32") * low24(b, "s32") >> 16) & 0xFFFFFFFF, "s32") + c, "s32")

    yield Instruction(
        "mad24.hi.sat.s32",
        "s32",
        ("s32",) * 3,
        on_integers(saturated, *("s32",) * 3, width=32),
        "mad24_hi<true>(a, b, c)",
    )


def carries() -> Iterator[Instruction]:
    """Each chain writes the carry flag with one instruction and reads it with the next; d is the second's result."""
    for kind in ("u32", "s32", "u64", "s64"):
        width = WIDTHS[kind]
        mask = (1 << width) - 1
        bits = f".reg .b{width} %low;"
        yield Instruction(
            f"addc.{kind}",
            kind,
            (kind,) * 3,
            lambda a, b, c, w=width, m=mask: (b + c + (a + b >> w)) & m,
            "add_carry(b, c, add_carry(a, b).carry).value",
            body=f"add.cc.{kind} %low, {{a}}, {{b}};\naddc.{kind} {{d}}, {{b}}, {{c}};",
            registers=bits,
        )
        yield Instruction(
            f"addc.cc.{kind}",
            kind,
            (kind,) * 3,
            lambda a, b, c, w=width, m=mask: (a + (b + c + (a + b >> w) >> w)) & m,
            "add_carry(a, decltype(a)(0), add_carry(b, c, add_carry(a, b).carry).carry).value",
            body=f"add.cc.{kind} %low, {{a}}, {{b}};\naddc.cc.{kind} %low, {{b}}, {{c}};\naddc.{kind} {{d}}, {{a}}, 0;",
            registers=bits,
        )
        yield Instruction(
            f"subc.{kind}",
            kind,
            (kind,) * 3,
            lambda a, b, c, m=mask: (b - c - int(a < b)) & m,
            "sub_carry(b, c, sub_carry(a, b).carry).value",
            body=f"sub.cc.{kind} %low, {{a}}, {{b}};\nsubc.{kind} {{d}}, {{b}}, {{c}};",
            registers=bits,
        )
        yield Instruction(
            f"subc.cc.{kind}",
            kind,
            (kind,) * 3,
            lambda a, b, c, m=mask: (a - int(b < c + int(a < b))) & m,
            "sub_carry(a, decltype(a)(0), sub_carry(b, c, sub_carry(a, b).carry).carry).value",
            body=f"sub.cc.{kind} %low, {{a}}, {{b}};\nsubc.cc.{kind} %low, {{b}}, {{c}};\nsubc.{kind} {{d}}, {{a}}, 0;",
            registers=bits,
        )
        for part, kind_value in (("lo", 0), ("hi", width)):

            def product_part(a: int, b: int, kind: str = kind, shift: int = kind_value, mask: int = mask) -> int:
                return value(a, kind) * value(b, kind) >> shift & mask

            yield Instruction(
                f"mad.{part}.cc.{kind}",
                kind,
                (kind,) * 3,
                lambda a, b, c, f=product_part, w=width, m=mask: (c + (f(a, b) + c >> w)) & m,
                f"add_carry(c, decltype(a)(0), mad_{part}_carry(a, b, c).carry).value",
                body=f"mad.{part}.cc.{kind} %low, {{a}}, {{b}}, {{c}};\naddc.{kind} {{d}}, {{c}}, 0;",
                registers=bits,
            )
            yield Instruction(
                f"madc.{part}.{kind}",
                kind,
                (kind,) * 3,
                lambda a, b, c, f=product_part, w=width, m=mask: (f(a, b) + c + (a + c >> w)) & m,
                f"mad_{part}_carry(a, b, c, add_carry(a, c).carry).value",
                body=f"add.cc.{kind} %low, {{a}}, {{c}};\nmadc.{part}.{kind} {{d}}, {{a}}, {{b}}, {{c}};",
                registers=bits,
            )
            yield Instruction(
                f"madc.{part}.cc.{kind}",
                kind,
                (kind,) * 3,
                lambda a, b, c, f=product_part, w=width, m=mask: (b + (f(a, b) + c + (a + c >> w) >> w)) & m,
                f"add_carry(b, decltype(a)(0), mad_{part}_carry(a, b, c, add_carry(a, c).carry).carry).value",
                body=f"add.cc.{kind} %low, {{a}}, {{c}};\nmadc.{part}.cc.{kind} %low, {{a}}, {{b}}, {{c}};\n"
                f"addc.{kind} {{d}}, {{b}}, 0;",
                registers=bits,
            )


def dot_products() -> Iterator[Instruction]:
    def elements(bits: int, width: int, kind: str) -> list[int]:
        parts = [bits >> shift & ((1 << width) - 1) for shift in range(0, 32, width)]
        return [signed(part, width) if kind[0] == "s" else part for part in parts]

    for a_kind, b_kind in product(("u32", "s32"), repeat=2):
        total = "u32" if (a_kind, b_kind) == ("u32", "u32") else "s32"
        types = "uint32_t" if a_kind == "u32" else "int32_t", "uint32_t" if b_kind == "u32" else "int32_t"

        def dp4a(a: int, b: int, c: int, ka: str = a_kind, kb: str = b_kind) -> int:
            pairs = zip(elements(a, 8, ka), elements(b, 8, kb), strict=True)
            return (c + sum(x * y for x, y in pairs)) & 0xFFFFFFFF

        yield Instruction(
            f"dp4a.{a_kind}.{b_kind}",
            total,
            ("b32", "b32", total),
            dp4a,
            f"dp4a<{', '.join(types)}>(a, b, uint32_t(c))",
        )
        for mode in ("lo", "hi"):

            def dp2a(a: int, b: int, c: int, ka: str = a_kind, kb: str = b_kind, high: bool = mode == "hi") -> int:
                eight = elements(b, 8, kb)
                pairs = zip(elements(a, 16, ka), eight[2:] if high else eight[:2], strict=True)
                return (c + sum(x * y for x, y in pairs)) & 0xFFFFFFFF

            yield Instruction(
                f"dp2a.{mode}.{a_kind}.{b_kind}",
                total,
                ("b32", "b32", total),
                dp2a,
                f"dp2a<{'true' if mode == 'hi' else 'false'}, {', '.join(types)}>(a, b, uint32_t(c))",
            )


INSTRUCTIONS = [*simple(), *packed_forms(), *multiply24(), *carries(), *dot_products()]
