"""Operand values for the instruction tests: the edges of every type, near misses, and reproducible random bits."""

from __future__ import annotations

import itertools
import random
from functools import cache

from ptx_formats import FORMATS, Format

LANES = 640  # operand tuples per instruction form

INTEGER_WIDTHS = {f"{kind}{width}": width for kind in "usb" for width in (8, 16, 32, 64)}
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "s16x2": "s16", "u16x2": "u16", "f32x2": "f32"}
WIDTHS = {
    **INTEGER_WIDTHS,
    **{name: form.width for name, form in FORMATS.items()},
    "pred": 32,
    "f16x2": 32,
    "bf16x2": 32,
    "s16x2": 32,
    "u16x2": 32,
    "f32x2": 64,
    "shift": 32,
}


def float_edges(form: Format) -> list[int]:
    top, sign, bias, man = form.infinity, form.sign_bit, form.bias, form.mantissa_bits
    one = form.one
    half_way = (bias + man) << man  # 2**mantissa_bits: the first value without fraction bits
    positive = [
        0,
        1,
        2,
        (1 << man) - 1,  # largest subnormal
        1 << man,  # smallest normal
        (1 << man) + 1,
        one - 1,
        one,
        one + 1,
        one + (1 << man),  # 2
        one + (1 << (man - 1)),  # 1.5
        one - (1 << man),  # 0.5
        one + (1 << man) + (1 << (man - 2)),  # 2.5
        half_way,
        half_way - 1,
        half_way + 1,
        (bias + min(31, bias)) << man,  # 2**31, where it exists
        (bias + min(63, bias)) << man,
        top - 1,  # largest finite
        top - 2,
        top,  # infinity
        top + 1,  # signalling NaN
        top | 1 << (man - 1) | 5,  # quiet NaN with a payload
    ]
    return positive + [bits | sign for bits in positive]


def integer_edges(width: int) -> list[int]:
    mask = (1 << width) - 1
    near = [0, 1, 2, 3, 5, 7, 1 << (width // 2), (1 << (width // 2)) - 1, 1 << (width - 1), (1 << (width - 1)) - 1]
    return sorted(
        {v & mask for n in near for v in (n, -n, ~n, n + 1)} | {0x5555555555555555 & mask, 0xA5A5A5A5A5A5A5A5 & mask}
    )


SHIFTS = [0, 1, 2, 7, 8, 15, 16, 17, 24, 31, 32, 33, 47, 63, 64, 65, 127, 128, 255, 256, 0x1F00, 0x7FFFFFFF, 0xFFFFFFFF]


@cache
def edges(kind: str) -> tuple[int, ...]:
    if kind == "pred":
        return (0, 1)
    if kind == "shift":
        return tuple(SHIFTS)
    if kind in FORMATS:
        return tuple(float_edges(FORMATS[kind]))
    return tuple(integer_edges(INTEGER_WIDTHS[kind]))


def pick(kind: str, source: random.Random) -> int:
    """One random operand: often an edge, often a plain value near one, sometimes any bits."""
    if kind in PACKED:
        half = WIDTHS[PACKED[kind]]
        return pick(PACKED[kind], source) << half | pick(PACKED[kind], source)
    choice = source.random()
    if choice < 0.3 or kind in ("pred", "shift"):
        return source.choice(edges(kind))
    if kind in FORMATS and choice < 0.8:
        form = FORMATS[kind]
        reach = min(form.bias - 1, source.choice((2, 12, 40)))
        exponent = form.bias + source.randint(-reach, reach)
        bits = exponent << form.mantissa_bits | source.getrandbits(form.mantissa_bits)
        if source.random() < 0.3:  # few significant bits: sums and products land on ties
            bits &= ~((1 << (form.mantissa_bits - 4)) - 1)
        return bits | (form.sign_bit if source.random() < 0.5 else 0)
    return source.getrandbits(WIDTHS[kind])


def operands(kinds: tuple[str, ...], name: str, lanes: int = LANES) -> list[tuple[int, ...]]:
    """`lanes` tuples: every pair of edges while they fit, then random ones. The same for the same name, always."""
    source = random.Random(name)
    if not kinds:
        return [()] * lanes
    tuples: list[tuple[int, ...]] = []
    if not any(kind in PACKED for kind in kinds):
        crossing = list(itertools.product(*(edges(kind) for kind in kinds[:2])))
        source.shuffle(crossing)
        tuples = [
            (*pair, *(pick(kind, source) for kind in kinds[2:]))
            for pair in crossing[: lanes if len(kinds) == 1 else lanes * 2 // 3]
        ]
    while len(tuples) < lanes:
        tuples.append(tuple(pick(kind, source) for kind in kinds))
    return tuples
