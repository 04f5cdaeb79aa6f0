"""SIMD video instructions: two halves or four bytes at a time, with masks, selectors and what is done with c."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptx_declare import Instruction
from ptx_family_compare import signed

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "avrg": lambda x, y: (x + y + (x + y >= 0)) // 2,
    "absdiff": lambda x, y: abs(x - y),
    "min": min,
    "max": max,
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}
MASK = 0xFFFFFFFF


def video(
    operation: Callable[[int, int], int],
    count: int,
    kinds: str,  # of d, a and b: u or s
    *,
    saturate: bool = False,
    accumulate: bool = False,
    elements: Sequence[int] = (),  # that are computed; all by default
    a_from: Sequence[int] = (),  # elements of a, then of b; the lowest place first
    b_from: Sequence[int] = (),
) -> Callable[[int, int, int], int]:
    width = 32 // count

    def extended(bits: int, kind: str) -> int:
        return signed(bits, width) if kind == "s" else bits

    def split(word: int) -> list[int]:
        return [word >> k * width & ((1 << width) - 1) for k in range(count)]

    def reference(a: int, b: int, c: int) -> int:
        both, places, total = split(a) + split(b), split(c), c
        for k in elements or range(count):
            x = extended(both[(a_from or range(count))[k]], kinds[1])
            y = extended(both[(b_from or range(count, 2 * count))[k]], kinds[2])
            result = int(operation(x, y))
            if saturate:
                low, high = (-(1 << width - 1), (1 << width - 1) - 1) if kinds[0] == "s" else (0, (1 << width) - 1)
                result = max(low, min(result, high))
            total += result
            places[k] = result & ((1 << width) - 1)
        return total & MASK if accumulate else sum(bits << k * width for k, bits in enumerate(places))

    return reference


def instruction(opcode: str, reference: Callable[..., int], operands: str = "") -> Instruction:
    body = f"{opcode} {operands};" if operands else ""
    return Instruction(f"{opcode} {operands}".strip(), "b32", ("b32", "b32", "b32"), reference, body=body)


def arithmetic() -> Iterator[Instruction]:
    for name, operation in OPERATIONS.items():
        for count in (2, 4):
            for kinds in ("uuu", "sss", "sus"):
                types = "".join(f".{kind}32" for kind in kinds)
                opcode = f"v{name}{count}{types}"
                yield instruction(opcode, video(operation, count, kinds))
                yield instruction(f"{opcode}.sat", video(operation, count, kinds, saturate=True))
                yield instruction(f"{opcode}.add", video(operation, count, kinds, accumulate=True))


def comparisons() -> Iterator[Instruction]:
    for name, operation in COMPARISONS.items():
        for count, kinds, accumulate in ((2, "uuu", False), (2, "uss", True), (4, "uss", False), (4, "uus", True)):
            opcode = f"vset{count}.{kinds[1]}32.{kinds[2]}32.{name}" + (".add" if accumulate else "")
            yield instruction(opcode, video(operation, count, kinds, accumulate=accumulate))


def selections() -> Iterator[Instruction]:
    """Each with a mask, or selectors, or all three. Digits are written from the highest place down."""
    for name, count, mask, a, b in (
        ("add", 2, "", "h01", ""),
        ("sub", 2, "h1", "", "h00"),
        ("max", 2, "h0", "h33", "h21"),
        ("absdiff", 4, "b20", "", ""),
        ("avrg", 4, "", "b0123", "b7766"),
        ("min", 4, "b3", "b7654", "b0000"),
        ("sub", 4, "b321", "b5261", "b3210"),
    ):
        places = [[int(digit) for digit in reversed(text[1:])] for text in (mask, a, b)]
        suffixes = [f".{text}" if text else "" for text in (mask, a, b)]
        operands = "{d}" + suffixes[0] + ", {a}" + suffixes[1] + ", {b}" + suffixes[2] + ", {c}"
        for kinds, accumulate in (("sss", False), ("uuu", True)):
            opcode = f"v{name}{count}" + "".join(f".{kind}32" for kind in kinds) + (".add" if accumulate else "")
            reference = video(
                OPERATIONS[name],
                count,
                kinds,
                accumulate=accumulate,
                elements=places[0],
                a_from=places[1],
                b_from=places[2],
            )
            yield instruction(opcode, reference, operands)


INSTRUCTIONS = [*arithmetic(), *comparisons(), *selections()]
