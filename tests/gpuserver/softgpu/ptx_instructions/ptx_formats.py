"""Exact reference arithmetic on the bit patterns of binary floating-point formats.

Values are Python integers scaled by a power of two, so that every operation is exact and rounded once, in any of
PTX's directions. Nothing here shares a line or an idea with the C++ headers under test: no host floating point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """What a bit pattern stands for: (-1)**negative * significand * 2**exponent, an infinity or a NaN."""

    negative: bool
    significand: int = 0
    exponent: int = 0
    infinite: bool = False
    nan: bool = False

    @property
    def zero(self) -> bool:
        return not (self.significand or self.infinite or self.nan)


@dataclass(frozen=True)
class Format:
    """A binary interchange format (IEEE 754, or bfloat16)."""

    name: str
    exponent_bits: int
    mantissa_bits: int

    @property
    def width(self) -> int:
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def sign_bit(self) -> int:
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent_bits) - 1) << self.mantissa_bits

    @property
    def one(self) -> int:
        return self.bias << self.mantissa_bits

    @property
    def canonical_nan(self) -> int:
        return 0xFFF8 << 48 if self.width == 64 else self.sign_bit - 1

    def is_nan(self, bits: int) -> bool:
        return bits & (self.sign_bit - 1) > self.infinity

    def decode(self, bits: int) -> Number:
        negative = bool(bits & self.sign_bit)
        field = bits >> self.mantissa_bits & ((1 << self.exponent_bits) - 1)
        fraction = bits & ((1 << self.mantissa_bits) - 1)
        if field == (1 << self.exponent_bits) - 1:
            return Number(negative, infinite=not fraction, nan=bool(fraction))
        if field:
            fraction |= 1 << self.mantissa_bits
        return Number(negative, fraction, max(field, 1) - self.bias - self.mantissa_bits)

    def encode(self, negative: bool, significand: int, exponent: int, mode: str, sticky: bool = False) -> int:
        """Round significand * 2**exponent; `sticky`: a little more than that (needs two spare bits)."""
        sign = self.sign_bit if negative else 0
        if not significand:
            return sign
        lowest = 1 - self.bias - self.mantissa_bits
        quantum = max(significand.bit_length() + exponent - self.mantissa_bits - 1, lowest)
        shift = quantum - exponent
        assert not sticky or shift >= 2
        kept, rest, half = (
            (significand >> shift, significand & ((1 << shift) - 1), 1 << (shift - 1))
            if shift > 0
            else (significand << -shift, 0, 1)
        )
        inexact = bool(rest) or sticky
        up = {
            "rn": rest > half or (rest == half and (sticky or kept & 1)),
            "rna": rest >= half,
            "rz": False,
            "rm": inexact and negative,
            "rp": inexact and not negative,
        }[mode]
        code = kept + int(up) + ((quantum - lowest) << self.mantissa_bits)
        if code >= self.infinity:
            to_infinity = {"rn": True, "rna": True, "rz": False, "rm": negative, "rp": not negative}[mode]
            code = self.infinity - (0 if to_infinity else 1)
        return sign | code

    def flush(self, bits: int) -> int:
        return bits & self.sign_bit if bits & self.infinity == 0 else bits

    def saturate(self, bits: int) -> int:
        if self.is_nan(bits) or bits & self.sign_bit:
            return 0
        return min(bits, self.one)

    def choose_nan(self, *operands: int) -> int:
        """The NaN that an arithmetic instruction delivers (types.h, "NaN rules")."""
        if self.width == 64:
            for bits in operands:
                if self.is_nan(bits):
                    return bits | 1 << 51
        return self.canonical_nan


F16 = Format("f16", 5, 10)
BF16 = Format("bf16", 8, 7)
F32 = Format("f32", 8, 23)
F64 = Format("f64", 11, 52)
FORMATS = {format.name: format for format in (F16, BF16, F32, F64)}


def fma(form: Format, a: int, b: int, c: int, mode: str = "rn") -> int:
    """a * b + c with one rounding."""
    x, y, z = (form.decode(bits) for bits in (a, b, c))
    product_negative = x.negative != y.negative
    if x.nan or y.nan or z.nan or (x.infinite and y.zero) or (x.zero and y.infinite):
        return form.choose_nan(a, b, c)
    if x.infinite or y.infinite:
        if z.infinite and z.negative != product_negative:
            return form.choose_nan(a, b, c)
        return form.infinity | (form.sign_bit if product_negative else 0)
    if z.infinite:
        return c
    product, scale = x.significand * y.significand, x.exponent + y.exponent
    low = min(scale, z.exponent)
    total = (-1) ** product_negative * (product << (scale - low)) + (-1) ** z.negative * (
        z.significand << (z.exponent - low)
    )
    if total == 0:
        same = product_negative == z.negative
        negative = product_negative if same else mode == "rm"
        return form.sign_bit if negative else 0
    return form.encode(total < 0, abs(total), low, mode)


def add(form: Format, a: int, b: int, mode: str = "rn") -> int:
    if form.is_nan(a) or form.is_nan(b):
        return form.choose_nan(a, b)
    return fma(form, a, form.one, b, mode)


def sub(form: Format, a: int, b: int, mode: str = "rn") -> int:
    if form.is_nan(a) or form.is_nan(b):
        return form.choose_nan(a, b)
    return fma(form, a, form.one, b ^ form.sign_bit, mode)


def mul(form: Format, a: int, b: int, mode: str = "rn") -> int:
    if form.is_nan(a) or form.is_nan(b):
        return form.choose_nan(a, b)
    # A zero of the product's sign leaves the sign of a zero product alone in every direction.
    return fma(form, a, b, (a ^ b) & form.sign_bit, mode)


def div(form: Format, a: int, b: int, mode: str = "rn") -> int:
    x, y = form.decode(a), form.decode(b)
    sign = (a ^ b) & form.sign_bit
    if x.nan or y.nan or (x.zero and y.zero) or (x.infinite and y.infinite):
        return form.choose_nan(a, b)
    if x.infinite or y.zero:
        return sign | form.infinity
    if y.infinite or x.zero:
        return sign
    spare = 2 * form.mantissa_bits + 8
    quotient, rest = divmod(x.significand << spare, y.significand)
    return form.encode(bool(sign), quotient, x.exponent - y.exponent - spare, mode, sticky=rest != 0)


def sqrt(form: Format, a: int, mode: str = "rn") -> int:
    x = form.decode(a)
    if x.nan or (x.negative and not x.zero):
        return form.choose_nan(a)
    if x.zero or x.infinite:
        return a
    spare = 2 * form.mantissa_bits + 8 + (x.exponent & 1)
    scaled = x.significand << spare
    root = math.isqrt(scaled)
    return form.encode(False, root, (x.exponent - spare) // 2, mode, sticky=root * root != scaled)


def convert(to: Format, source: Format, bits: int, mode: str = "rn") -> int:
    """Float to float. A NaN becomes canonical; on the way to f64, f32's keeps its bits a half's is canonical f32."""
    x = source.decode(bits)
    sign = to.sign_bit if x.negative else 0
    if x.nan:
        if to.width == 64 and source.width == 16:
            return 0x7FFFFFFFE0000000
        if to.width == 64:
            fraction = bits & ((1 << source.mantissa_bits) - 1)
            return sign | to.infinity | 1 << 51 | fraction << (to.mantissa_bits - source.mantissa_bits)
        return to.canonical_nan
    if x.infinite:
        return sign | to.infinity
    return to.encode(x.negative, x.significand, x.exponent, mode)


def to_integer(source: Format, bits: int, mode: str) -> int | None:
    """The integer that a float rounds to; None for a NaN; infinities as +-10**400."""
    x = source.decode(bits)
    if x.nan:
        return None
    if x.infinite:
        return -(10**400) if x.negative else 10**400
    if x.exponent >= 0:
        magnitude = x.significand << x.exponent
    else:
        shift = -x.exponent
        magnitude, rest, half = x.significand >> shift, x.significand & ((1 << shift) - 1), 1 << (shift - 1)
        magnitude += {
            "rn": rest > half or (rest == half and magnitude & 1 == 1),
            "rz": False,
            "rm": x.negative and rest > 0,
            "rp": not x.negative and rest > 0,
        }[mode]
    return -magnitude if x.negative else magnitude


def from_integer(to: Format, value: int, mode: str = "rn") -> int:
    return to.encode(value < 0, abs(value), 0, mode)


def order(form: Format, a: int, b: int) -> int | None:
    """-1, 0 or 1 as a is less than, equal to or greater than b; None when unordered."""
    if form.is_nan(a) or form.is_nan(b):
        return None
    key_a, key_b = (-(v & (form.sign_bit - 1)) if v & form.sign_bit else v for v in (a, b))
    return (key_a > key_b) - (key_a < key_b)


def to_float(form: Format, bits: int) -> float:
    """As a Python float: exact for every format here."""
    x = form.decode(bits)
    if x.nan:
        return math.nan
    if x.infinite:
        return -math.inf if x.negative else math.inf
    value = math.ldexp(x.significand, x.exponent)
    return -value if x.negative else value
