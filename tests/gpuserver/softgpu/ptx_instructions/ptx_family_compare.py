"""setp, set, selp, slct, testp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from ptx_declare import Instruction
from ptx_family_float import flag
from ptx_formats import FORMATS, Format, order
from ptx_operands import WIDTHS

ORDERED: dict[str, Callable[[int], bool]] = {
    "eq": lambda o: o == 0,
    "ne": lambda o: o != 0,
    "lt": lambda o: o < 0,
    "le": lambda o: o <= 0,
    "gt": lambda o: o > 0,
    "ge": lambda o: o >= 0,
}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
FLOAT_COMPARISONS = [*ORDERED, *(name + "u" for name in ORDERED), "num", "nan"]
BOOLEANS: dict[str, Callable[[bool, bool], bool]] = {
    "and": lambda p, q: p and q,
    "or": lambda p, q: p or q,
    "xor": lambda p, q: p != q,
}


def signed(bits: int, width: int) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits


def integer_comparison(name: str, kind: str) -> Callable[[int, int], bool]:
    width = WIDTHS[kind]
    name = UNSIGNED.get(name, name)

    def holds(a: int, b: int) -> bool:
        if kind[0] == "s":
            a, b = signed(a, width), signed(b, width)
        return ORDERED[name]((a > b) - (a < b))

    return holds


def float_comparison(name: str, form: Format, ftz: bool = False) -> Callable[[int, int], bool]:
    def holds(a: int, b: int) -> bool:
        if ftz:
            a, b = form.flush(a), form.flush(b)
        ordering = order(form, a, b)
        if name in ("num", "nan"):
            return (ordering is None) == (name == "nan")
        if ordering is None:
            return name.endswith("u")
        return ORDERED[name.removesuffix("u")](ordering)

    return holds


def lane_of(name: str, ftz: str) -> str:
    return f"compare<Comparison::{UNSIGNED.get(name, name)}, {flag(ftz)}>(a, b)"


def setp() -> Iterator[Instruction]:
    for kind in ("u16", "u32", "u64", "s16", "s32", "s64", "b16", "b32", "b64"):
        names = ["eq", "ne"] if kind[0] == "b" else [*ORDERED, *(UNSIGNED if kind[0] == "u" else ())]
        for name in names:
            holds = integer_comparison(name, kind)
            yield Instruction(
                f"setp.{name}.{kind}", "pred", (kind, kind), lambda a, b, h=holds: int(h(a, b)), lane_of(name, "")
            )
    for kind in ("f32", "f64", "f16", "bf16"):
        for name, ftz in product(FLOAT_COMPARISONS, ("", ".ftz") if kind in ("f32", "f16") else ("",)):
            holds = float_comparison(name, FORMATS[kind], bool(ftz))
            yield Instruction(
                f"setp.{name}{ftz}.{kind}", "pred", (kind, kind), lambda a, b, h=holds: int(h(a, b)), lane_of(name, ftz)
            )
    # A third, predicate operand and the complement as a second destination.
    for boolean, combine in BOOLEANS.items():
        for kind, negate in product(("s32", "f64", "u16"), ("", "!")):
            holds = float_comparison("lt", FORMATS[kind]) if kind == "f64" else integer_comparison("lt", kind)
            for second in (False, True):

                def reference(a, b, c, h=holds, combine=combine, negate=negate, second=second):  # type: ignore[no-untyped-def]
                    p = h(a, b)
                    return int(combine(not p if second else p, bool(c) != bool(negate)))

                target = "%other|{d}" if second else "{d}|%other"
                yield Instruction(
                    f"setp.lt.{boolean}.{kind}",
                    "pred",
                    (kind, kind, "pred"),
                    reference,
                    suffix=f"{negate}c -> {'second' if second else 'first'}",
                    body=f"{{op}} {target}, {{a}}, {{b}}, {negate}{{c}};",
                    registers=".reg .pred %other;",
                )
    # Packed comparisons give a predicate for each half.
    for kind, name, half in product(("f16", "bf16"), ("eq", "ltu", "num", "ge"), (0, 1)):
        holds = float_comparison(name, FORMATS[kind])
        yield Instruction(
            f"setp.{name}.{kind}x2",
            "pred",
            (kind + "x2", kind + "x2"),
            lambda a, b, h=holds, s=16 * half: int(h(a >> s & 0xFFFF, b >> s & 0xFFFF)),
            suffix="high" if half else "low",
            body="{op} " + ("%other|{d}" if half else "{d}|%other") + ", {a}, {b};",
            registers=".reg .pred %other;",
        )


def set_() -> Iterator[Instruction]:
    ones = {"u32": 0xFFFFFFFF, "s32": 0xFFFFFFFF, "f32": 0x3F800000}
    sources = ["u16", "u32", "u64", "s16", "s32", "s64", "b32", "b64", "f32", "f64"]
    for to, kind in product(ones, sources):
        for name in ("eq", "ne") if kind[0] == "b" else ("lt", "ge", "ne"):
            holds = float_comparison(name, FORMATS[kind]) if kind in FORMATS else integer_comparison(name, kind)
            yield Instruction(
                f"set.{name}.{to}.{kind}", to, (kind, kind), lambda a, b, h=holds, one=ones[to]: one if h(a, b) else 0
            )
    for name in FLOAT_COMPARISONS:
        for ftz in ("", ".ftz"):
            if not ftz and name in ("lt", "ge", "ne"):
                continue  # declared above
            holds = float_comparison(name, FORMATS["f32"], bool(ftz))
            yield Instruction(
                f"set.{name}{ftz}.u32.f32", "u32", ("f32", "f32"), lambda a, b, h=holds: 0xFFFFFFFF if h(a, b) else 0
            )
    for boolean, combine in BOOLEANS.items():
        holds = integer_comparison("gt", "s32")
        yield Instruction(
            f"set.gt.{boolean}.u32.s32",
            "u32",
            ("s32", "s32", "pred"),
            lambda a, b, c, h=holds, combine=combine: 0xFFFFFFFF if combine(h(a, b), bool(c)) else 0,
        )
    for kind, one in (("f16", 0x3C00), ("bf16", 0x3F80)):
        for name in ("lt", "geu", "nan"):
            holds = float_comparison(name, FORMATS[kind])
            yield Instruction(
                f"set.{name}.{kind}.{kind}", kind, (kind, kind), lambda a, b, h=holds, one=one: one if h(a, b) else 0
            )
            yield Instruction(
                f"set.{name}.u32.{kind}", "u32", (kind, kind), lambda a, b, h=holds: 0xFFFFFFFF if h(a, b) else 0
            )
            yield Instruction(
                f"set.{name}.{kind}x2.{kind}x2",
                kind + "x2",
                (kind + "x2", kind + "x2"),
                lambda a, b, h=holds, one=one: (
                    (one if h(a >> 16, b >> 16) else 0) << 16 | (one if h(a & 0xFFFF, b & 0xFFFF) else 0)
                ),
            )


def select() -> Iterator[Instruction]:
    for kind in ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64"):
        yield Instruction(f"selp.{kind}", kind, (kind, kind, "pred"), lambda a, b, c: a if c else b)
        yield Instruction(f"slct.{kind}.s32", kind, (kind, kind, "s32"), lambda a, b, c: b if c >> 31 else a)
        for ftz in ("", ".ftz"):

            def by_float(a: int, b: int, c: int, ftz: str = ftz) -> int:
                form = FORMATS["f32"]
                ordering = order(form, form.flush(c) if ftz else c, 0)
                return a if ordering is not None and ordering >= 0 else b

            yield Instruction(f"slct{ftz}.{kind}.f32", kind, (kind, kind, "f32"), by_float)


def testp() -> Iterator[Instruction]:
    for kind in ("f32", "f64"):
        form = FORMATS[kind]

        def classify(bits: int, form: Format = form) -> set[str]:
            x = form.decode(bits)
            if x.nan:
                return {"notanumber"}
            if x.infinite:
                return {"infinite", "number"}
            subnormal = not x.zero and not x.significand >> form.mantissa_bits
            return {"finite", "number", "subnormal" if subnormal else "normal"}

        for name in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
            yield Instruction(
                f"testp.{name}.{kind}",
                "pred",
                (kind,),
                lambda a, name=name, classify=classify: int(name in classify(a)),
                f"test<FloatClass::{name}>(a)",
            )


INSTRUCTIONS = [*setp(), *set_(), *select(), *testp()]
