"""f32, f64, f16, bf16 and their packed forms: add, sub, mul, fma, div, rcp, sqrt, min, max, abs, neg, copysign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import ptx_formats as exact
from ptx_declare import Instruction
from ptx_formats import BF16, F16, F32, F64, FORMATS, Format

Reference = Callable[..., int]
MODES = ("rn", "rz", "rm", "rp")


def flag(text: str) -> str:
    return "true" if text else "false"


def wrapped(
    form: Format, operation: Callable[..., int], mode: str, ftz: bool, sat: bool, relu: bool = False
) -> Reference:
    """The operation with its operands and its result flushed, saturated or clamped as the modifiers say."""

    def reference(*operands: int) -> int:
        if ftz:
            operands = tuple(form.flush(bits) for bits in operands)
        result = operation(form, *operands, mode)
        if ftz:
            result = form.flush(result)
        if relu and result & form.sign_bit and not form.is_nan(result):
            result = 0
        return form.saturate(result) if sat else result

    return reference


def packed(reference: Reference, width: int) -> Reference:
    mask = (1 << width) - 1

    def both(*operands: int) -> int:
        low = reference(*(bits & mask for bits in operands))
        return reference(*(bits >> width for bits in operands)) << width | low

    return both


OPERATIONS: dict[str, tuple[int, Callable[..., int]]] = {
    "add": (2, exact.add),
    "sub": (2, exact.sub),
    "mul": (2, exact.mul),
    "fma": (3, exact.fma),
    "div": (2, exact.div),
    "sqrt": (1, exact.sqrt),
    "rcp": (1, lambda form, a, mode: exact.div(form, form.one, a, mode)),
}


def arithmetic() -> Iterator[Instruction]:
    letters = ("a", "a, b", "a, b, c")
    for name, (arity, operation) in OPERATIONS.items():
        arguments = letters[arity - 1]
        saturates = name in ("add", "sub", "mul", "fma")
        for mode, ftz, sat in product(MODES, ("", ".ftz"), ("", ".sat") if saturates else ("",)):
            lane = f"{name}<Rounding::{mode}, {flag(ftz)}" + (f", {flag(sat)}" if saturates else "") + f">({arguments})"
            reference = wrapped(F32, operation, mode, bool(ftz), bool(sat))
            yield Instruction(f"{name}.{mode}{ftz}{sat}.f32", "f32", ("f32",) * arity, reference, lane)
            if saturates and not sat:
                yield Instruction(f"{name}.{mode}{ftz}.f32x2", "f32x2", ("f32x2",) * arity, packed(reference, 32), lane)
        for mode in MODES:
            reference = wrapped(F64, operation, mode, False, False)
            yield Instruction(
                f"{name}.{mode}.f64", "f64", ("f64",) * arity, reference, f"{name}<Rounding::{mode}>({arguments})"
            )
    # The forms without a rounding modifier round to nearest.
    for name, kind in product(("add", "sub", "mul"), ("f32", "f64")):
        reference = wrapped(FORMATS[kind], OPERATIONS[name][1], "rn", False, False)
        yield Instruction(f"{name}.{kind}", kind, (kind, kind), reference, f"{name}(a, b)")
    for mode in ("rn", "rz"):
        reference = wrapped(F32, exact.fma, mode, False, False)
        yield Instruction(f"mad.{mode}.f32", "f32", ("f32",) * 3, reference, f"fma<Rounding::{mode}>(a, b, c)")
    yield Instruction("mad.rn.f64", "f64", ("f64",) * 3, wrapped(F64, exact.fma, "rn", False, False), "fma(a, b, c)")


def half_arithmetic() -> Iterator[Instruction]:
    for form, (name, arity) in product((F16, BF16), (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3))):
        variants = [(ftz, sat, "") for ftz in ("", ".ftz") for sat in ("", ".sat")] if form is F16 else [("", "", "")]
        if name == "fma":
            variants += [(ftz, "", ".relu") for ftz in (("", ".ftz") if form is F16 else ("",))]
        for ftz, sat, relu in variants:
            operation = OPERATIONS[name][1]
            reference = wrapped(form, operation, "rn", bool(ftz), bool(sat), bool(relu))
            lane = f"{name}<Rounding::rn, {flag(ftz)}, {flag(sat)}" + (f", {flag(relu)}" if name == "fma" else "")
            lane += f">({', '.join('abc'[:arity])})"
            opcode = f"{name}.rn{ftz}{sat}{relu}.{form.name}"
            yield Instruction(opcode, form.name, (form.name,) * arity, reference, lane)
            pair = form.name + "x2"
            yield Instruction(opcode + "x2", pair, (pair,) * arity, packed(reference, 16), lane)


def extremum(form: Format, largest: bool, ftz: bool, propagate: bool, xorsign: bool) -> Reference:
    def reference(a: int, b: int) -> int:
        if ftz:
            a, b = form.flush(a), form.flush(b)
        sign = (a ^ b) & form.sign_bit
        if xorsign:
            a, b = a & ~form.sign_bit, b & ~form.sign_bit
        nans = form.is_nan(a) + form.is_nan(b)
        if nans == 2 or (nans and propagate):
            return form.choose_nan(a, b)
        if nans:
            result = b if form.is_nan(a) else a
        else:

            def key(bits: int) -> int:  # -0 below +0
                return -(bits & ~form.sign_bit) - 1 if bits & form.sign_bit else bits

            result = (max if largest else min)(a, b, key=key)
        return result | sign if xorsign else result

    return reference


def extrema() -> Iterator[Instruction]:
    for name, kind in product(("min", "max"), ("f32", "f16", "bf16", "f64")):
        form = FORMATS[kind]
        simple = kind == "f64"
        for ftz, nan, xor in product(
            ("", ".ftz") if kind in ("f32", "f16") else ("",),
            ("",) if simple else ("", ".NaN"),
            ("",) if simple else ("", ".xorsign.abs"),
        ):
            reference = extremum(form, name == "max", bool(ftz), bool(nan), bool(xor))
            lane = f"{name}<{flag(ftz)}, {flag(nan)}, {flag(xor)}>(a, b)"
            opcode = f"{name}{ftz}{nan}{xor}.{kind}"
            yield Instruction(opcode, kind, (kind, kind), reference, lane)
            if kind in ("f16", "bf16"):
                pair = kind + "x2"
                yield Instruction(opcode + "x2", pair, (pair, pair), packed(reference, 16), lane)
            elif kind == "f32" and not xor:  # three operands have no .xorsign.abs
                yield Instruction(
                    opcode,
                    "f32",
                    ("f32",) * 3,
                    lambda a, b, c, two=reference: two(two(a, b), c),
                    f"{name}<{flag(ftz)}, {flag(nan)}, {flag(xor)}>(a, b, c)",
                )


def signs() -> Iterator[Instruction]:
    for kind, name in product(("f32", "f64", "f16", "bf16"), ("abs", "neg")):
        form = FORMATS[kind]
        for ftz in ("", ".ftz") if kind in ("f32", "f16") else ("",):

            def reference(a: int, form: Format = form, name: str = name, ftz: str = ftz) -> int:
                a = form.flush(a) if ftz else a
                return a & ~form.sign_bit if name == "abs" else a ^ form.sign_bit

            yield Instruction(f"{name}{ftz}.{kind}", kind, (kind,), reference, f"{name}<{flag(ftz)}>(a)")
            if form.width == 16:
                pair = kind + "x2"
                yield Instruction(
                    f"{name}{ftz}.{pair}", pair, (pair,), packed(reference, 16), f"{name}<{flag(ftz)}>(a)"
                )
    for kind in ("f32", "f64"):
        form = FORMATS[kind]
        yield Instruction(
            f"copysign.{kind}",
            kind,
            (kind, kind),
            lambda a, b, form=form: a & form.sign_bit | b & ~form.sign_bit,
            "copysign(a, b)",
        )


INSTRUCTIONS = [*arithmetic(), *half_arithmetic(), *extrema(), *signs()]
