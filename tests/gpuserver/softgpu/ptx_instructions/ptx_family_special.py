"""The .approx functions, judged by PTX's tables of special values and its error bounds.

The reference is Python's math module in double (correct to an ulp of double, 2**-52), or exact integers for rcp and
sqrt; every bound here is at least 2**24 times larger than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import ptx_formats as exact
from ptx_declare import Instruction
from ptx_formats import BF16, F16, F32, F64, Format, to_float

INF = math.inf


@dataclass(frozen=True)
class Bound:
    """|got - want| <= absolute + relative * |want| + steps * (distance of neighbours at want)."""

    relative: float = 0.0
    absolute: float = 0.0
    steps: float = 0.0

    def allows(self, form: Format, got: float, want: float) -> bool:
        step = 2.0 ** (max(math.frexp(want)[1] - 1, 1 - form.bias) - form.mantissa_bits)
        return abs(got - want) <= self.absolute + self.relative * abs(want) + self.steps * step


def judged(
    name: str,
    form: Format,
    function: Callable[[float], float],
    bound: Bound | Callable[[float], Bound],
    ftz: bool,
    domain: Callable[[float], bool] = lambda x: True,
    monotone_range: tuple[float, float] | None = None,
) -> Callable[[tuple[int, ...], int], str | None]:
    def accept(operands: tuple[int, ...], got: int) -> str | None:
        (a,) = operands
        if ftz:
            a = form.flush(a)
        x, result = to_float(form, a), to_float(form, got)
        want = function(x)
        where = f"{name}(0x{a:x} = {x!r}) = 0x{got:x} = {result!r}, expected {want!r}"
        if math.isnan(want):
            return None if got == form.choose_nan(a) or (form.width == 64 and form.is_nan(got)) else where
        if not domain(x):
            low, high = monotone_range or (-INF, INF)
            return None if low <= result <= high else where
        if math.isinf(want):
            return None if result == want else where
        if want == 0:
            return None if result == 0 and math.copysign(1, result) == math.copysign(1, want) else where
        flushed = ftz and abs(want) < 2.0 ** (1 - form.bias)
        if flushed and got == (form.sign_bit if want < 0 else 0):
            return None
        limit = bound(x) if callable(bound) else bound
        largest = to_float(form, form.infinity - 1)
        if math.isinf(result):
            return None if abs(want) > largest and (result > 0) == (want > 0) else where
        if ftz and got & ~form.sign_bit and got & form.infinity == 0:
            return where + " (a subnormal result under .ftz)"
        return None if limit.allows(form, result, want) else where

    return accept


def sine(x: float) -> float:
    return math.nan if math.isinf(x) or math.isnan(x) else (x if x == 0 else math.sin(x))


def cosine(x: float) -> float:
    return math.nan if math.isinf(x) or math.isnan(x) else math.cos(x)


def exp2(x: float) -> float:
    if math.isnan(x) or x == INF:
        return x
    return 0.0 if x < -1100 else (INF if x > 1023 else 2.0**x)


def log2(x: float) -> float:
    if math.isnan(x) or x < 0:
        return math.nan
    return -INF if x == 0 else (x if x == INF else math.log2(x))


def reciprocal(x: float) -> float:
    if x == 0:
        return math.copysign(INF, x)
    return x if math.isnan(x) else 1.0 / x


def reciprocal_root(x: float) -> float:
    if math.isnan(x) or x < 0:
        return math.nan
    return math.copysign(INF, x) if x == 0 else 1.0 / math.sqrt(x)


def root(x: float) -> float:
    return math.nan if math.isnan(x) or x < 0 else (x if x == 0 else math.sqrt(x))


def hyperbolic(x: float) -> float:
    return math.tanh(x)


def reduced_range(x: float) -> bool:
    """Where PTX states an error for sin and cos (wider there: 2**-14.7 up to 100 pi)."""
    return abs(x) <= 100 * math.pi


def trigonometric(x: float) -> Bound:
    return Bound(absolute=2.0**-20.5 if abs(x) <= 2 * math.pi else 2.0**-14.7)


def logarithmic(x: float) -> Bound:
    return Bound(absolute=2.0**-22) if 0.5 <= x <= 2 else Bound(relative=2.0**-22)


HALF_STEP = Bound(steps=0.5000001)


def single() -> Iterator[Instruction]:
    functions: list[tuple[str, Callable[[float], float], Bound | Callable[[float], Bound], dict[str, object]]] = [
        ("sin", sine, trigonometric, {"domain": reduced_range, "monotone_range": (-1.0, 1.0)}),
        ("cos", cosine, trigonometric, {"domain": reduced_range, "monotone_range": (-1.0, 1.0)}),
        ("ex2", exp2, Bound(relative=2.0**-22, steps=0.5), {}),
        ("lg2", log2, logarithmic, {}),
        ("rcp", reciprocal, Bound(steps=1), {}),
        ("rsqrt", reciprocal_root, Bound(relative=2.0**-22.9), {}),
        ("sqrt", root, Bound(relative=2.0**-23, steps=0.5), {}),
    ]
    for (name, function, bound, more), ftz in product(functions, ("", ".ftz")):
        accept = judged(f"{name}.approx{ftz}.f32", F32, function, bound, bool(ftz), **more)  # type: ignore[arg-type]
        lane = f"{name}_approx<{'true' if ftz else 'false'}>(a)"
        yield Instruction(f"{name}.approx{ftz}.f32", "f32", ("f32",), int, lane, accept=accept)
    accept = judged("tanh.approx.f32", F32, hyperbolic, Bound(relative=2.0**-11), False)
    yield Instruction("tanh.approx.f32", "f32", ("f32",), int, "tanh_approx(a)", accept=accept)


def halves() -> Iterator[Instruction]:
    for form, name, function, bound in (
        (F16, "ex2", exp2, Bound(relative=2.0**-9.9, steps=0.5)),
        (BF16, "ex2", exp2, Bound(relative=2.0**-7, steps=0.5)),
        (F16, "tanh", hyperbolic, Bound(relative=2.0**-10.987, steps=0.5)),
        (BF16, "tanh", hyperbolic, Bound(relative=2.0**-8, steps=0.5)),
    ):
        ftz = ".ftz" if form is BF16 and name == "ex2" else ""
        one = judged(f"{name}.approx{ftz}.{form.name}", form, function, bound, bool(ftz))

        def both(operands: tuple[int, ...], got: int, one: Callable[..., str | None] = one) -> str | None:
            return one((operands[0] & 0xFFFF,), got & 0xFFFF) or one((operands[0] >> 16,), got >> 16)

        lane = f"{name}_approx{'<true>' if ftz else ''}(a)"
        yield Instruction(f"{name}.approx{ftz}.{form.name}", form.name, (form.name,), int, lane, accept=one)
        pair = form.name + "x2"
        yield Instruction(f"{name}.approx{ftz}.{pair}", pair, (pair,), int, lane, accept=both)


def upper_word(function: Callable[[float], float]) -> Callable[[float], float]:
    """Of a double whose lower 32 bits are ignored."""

    def of(x: float) -> float:
        import struct

        bits = struct.unpack("<Q", struct.pack("<d", x))[0] & 0xFFFFFFFF00000000
        bits = F64.flush(bits)
        return math.nan if math.isnan(x) else function(to_float(F64, bits))

    return of


def double() -> Iterator[Instruction]:
    for name, function in (("rcp", reciprocal), ("rsqrt", reciprocal_root)):
        inner = judged(f"{name}.approx.ftz.f64", F64, upper_word(function), Bound(relative=2.0**-20), True)

        def accept(
            operands: tuple[int, ...], got: int, inner: Callable[..., str | None] = inner, name: str = name
        ) -> str | None:
            if got & 0xFFFFFFFF:
                return f"{name}.approx.ftz.f64: the lower 32 bits of 0x{got:016x} are not zero"
            return inner(operands, got)

        yield Instruction(f"{name}.approx.ftz.f64", "f64", ("f64",), int, f"{name}_approx_f64(a)", accept=accept)


def division() -> Iterator[Instruction]:
    """div.full: 2 ulp. div.approx: 2 ulp for |b| in [2**-126, 2**126]; above, 0, or NaN when a is infinite."""
    for form, ftz in product(("full", "approx"), ("", ".ftz")):
        name = f"div.{form}{ftz}.f32"

        def accept(
            operands: tuple[int, ...], got: int, name: str = name, approximate: bool = form == "approx", ftz: str = ftz
        ) -> str | None:
            a, b = (F32.flush(v) if ftz else v for v in operands)
            x, y = F32.decode(a), F32.decode(b)
            want = exact.div(F32, a, b)
            if approximate and not (y.nan or y.infinite) and abs(to_float(F32, b)) > 2.0**126:
                want = F32.canonical_nan if x.infinite or x.nan else (a ^ b) & F32.sign_bit
            if ftz:
                want = F32.flush(want)
            distance = abs((got & 0x7FFFFFFF) - (want & 0x7FFFFFFF))
            same_sign = (got ^ want) >> 31 == 0
            exact_needed = F32.is_nan(want) or want & 0x7FFFFFFF in (0, F32.infinity)
            if same_sign and distance <= (0 if exact_needed else 2):
                return None
            return f"{name}(0x{a:08x}, 0x{b:08x}) = 0x{got:08x}, expected 0x{want:08x}"

        lane = f"div_{form}<{'true' if ftz else 'false'}>(a, b)"
        yield Instruction(name, "f32", ("f32", "f32"), int, lane, accept=accept)


INSTRUCTIONS = [*single(), *halves(), *double(), *division()]
