"""Logic, shifts, bit counting, bit fields and permutation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from ptx_declare import Instruction
from ptx_family_compare import signed
from ptx_operands import WIDTHS

ONES32 = 0xFFFFFFFF


def logic() -> Iterator[Instruction]:
    operations: dict[str, Callable[[int, int], int]] = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }
    for (name, operation), kind in product(operations.items(), ("pred", "b16", "b32", "b64")):
        yield Instruction(f"{name}.{kind}", kind, (kind, kind), operation)
    for kind in ("b16", "b32", "b64"):
        mask = (1 << WIDTHS[kind]) - 1
        yield Instruction(f"not.{kind}", kind, (kind,), lambda a, m=mask: ~a & m)
        yield Instruction(f"cnot.{kind}", kind, (kind,), lambda a: int(a == 0), "cnot(a)")
    yield Instruction("not.pred", "pred", ("pred",), lambda a: 1 - a)
    for table in (0x00, 0xFF, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x3C, 0x1B, 0xAA, 0xCC, 0xF0, 0x69, 0x01, 0x7F, 0xD8):

        def lookup(a: int, b: int, c: int, table: int = table) -> int:
            return sum((table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i for i in range(32))

        yield Instruction(
            "lop3.b32", "b32", ("b32",) * 3, lookup, f"lop3(a, b, c, {table:#x}u)", suffix=f", {table:#04x}"
        )


def shifts() -> Iterator[Instruction]:
    for kind in ("b16", "b32", "b64"):
        width = WIDTHS[kind]
        mask = (1 << width) - 1
        yield Instruction(
            f"shl.{kind}", kind, (kind, "shift"), lambda a, b, w=width, m=mask: a << b & m if b < w else 0, "shl(a, b)"
        )
    for prefix, width in product("bus", (16, 32, 64)):
        kind = f"{prefix}{width}"

        def right(a: int, b: int, prefix: str = prefix, width: int = width) -> int:
            number = signed(a, width) if prefix == "s" else a
            return number >> min(b, width) & ((1 << width) - 1)

        yield Instruction(f"shr.{kind}", kind, (kind, "shift"), right, "shr(a, b)")
    for direction, mode in product("lr", ("clamp", "wrap")):

        def funnel(a: int, b: int, c: int, direction: str = direction, mode: str = mode) -> int:
            amount = min(c, 32) if mode == "clamp" else c & 31
            both = b << 32 | a
            return (both << amount >> 32 if direction == "l" else both >> amount) & ONES32

        yield Instruction(
            f"shf.{direction}.{mode}.b32",
            "b32",
            ("b32", "b32", "shift"),
            funnel,
            f"shf_{direction}<{'true' if mode == 'clamp' else 'false'}>(a, b, c)",
        )


def counting() -> Iterator[Instruction]:
    for width in (32, 64):
        kind = f"b{width}"
        yield Instruction(f"popc.{kind}", "u32", (kind,), int.bit_count, "popc(a)")
        yield Instruction(f"clz.{kind}", "u32", (kind,), lambda a, w=width: w - a.bit_length(), "clz(a)")
        yield Instruction(f"brev.{kind}", kind, (kind,), lambda a, w=width: int(f"{a:0{w}b}"[::-1], 2), "brev(a)")
        for prefix, shift in product("us", (False, True)):

            def find(a: int, prefix: str = prefix, width: int = width, shift: bool = shift) -> int:
                if prefix == "s" and a >> (width - 1):
                    a ^= (1 << width) - 1
                if not a:
                    return ONES32
                return width - a.bit_length() if shift else a.bit_length() - 1

            name = f"bfind{'.shiftamt' if shift else ''}.{prefix}{width}"
            yield Instruction(name, "u32", (f"{prefix}{width}",), find, f"bfind<{'true' if shift else 'false'}>(a)")

    def fns(mask: int, base: int, offset: int) -> int:
        base &= 31
        offset = signed(offset, 32)
        if offset == 0:
            return base if mask >> base & 1 else ONES32
        places = range(base, 32) if offset > 0 else range(base, -1, -1)
        found = [place for place in places if mask >> place & 1]
        return found[abs(offset) - 1] if abs(offset) <= len(found) else ONES32

    # The base is kept within 0..31 (beyond, PTX defines nothing); the offset is an edge (but not -2**31,
    # which has no magnitude in s32) or a small number.
    yield Instruction(
        "fns.b32",
        "b32",
        ("b32", "shift", "s32"),
        lambda a, b, c: fns(a, b, (c >> 1 & 0xF) - 8 & ONES32 if c & 1 else c | 4),
        "fns(a, b & 31, c & 1 ? (c >> 1 & 15) - 8 : c | 4)",
        body="and.b32 %base, {b}, 31;\n"
        "shr.u32 %small, {c}, 1;\nand.b32 %small, %small, 15;\nsub.s32 %small, %small, 8;\n"
        "and.b32 %odd, {c}, 1;\n"
        "setp.ne.u32 %is_odd, %odd, 0;\nor.b32 %even, {c}, 4;\n"
        "selp.b32 %small, %small, %even, %is_odd;\n{op} {d}, {a}, %base, %small;",
        registers=".reg .b32 %base, %small, %odd, %even;\n    .reg .pred %is_odd;",
    )


def fields() -> Iterator[Instruction]:
    for prefix, width in product("us", (32, 64)):
        kind = f"{prefix}{width}"

        def extract(a: int, b: int, c: int, prefix: str = prefix, width: int = width) -> int:
            position, length = (b & 0xFF, c & 0xFF) if width == 32 else (b, c)
            top = width - 1
            sign = 0 if prefix == "u" or length == 0 else a >> min(position + length - 1, top) & 1
            bits = [a >> (position + i) & 1 if i < length and position + i <= top else sign for i in range(width)]
            return sum(bit << i for i, bit in enumerate(bits))

        yield Instruction(f"bfe.{kind}", kind, (kind, "shift", "shift"), extract, "bfe(a, b, c)")
    for width in (32, 64):
        kind = f"b{width}"

        def insert(a: int, b: int, c: int, e: int, width: int = width) -> int:
            position, length = (c & 0xFF, e & 0xFF) if width == 32 else (c, e)
            for i in range(min(length, width - position) if position < width else 0):
                b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
            return b

        yield Instruction(f"bfi.{kind}", kind, (kind, kind, "shift", "shift"), insert, "bfi(a, b, c, e)")
    for mode in ("clamp", "wrap"):

        def mask(a: int, b: int, mode: str = mode) -> int:
            if mode == "wrap":
                a, b = a & 31, b & 31
            return sum(1 << i for i in range(min(a, 32), min(a + b, 32)))

        clamp = "true" if mode == "clamp" else "false"
        yield Instruction(f"bmsk.{mode}.b32", "b32", ("shift", "shift"), mask, f"bmsk<{clamp}>(a, b)")
        for prefix in "us":

            def extend(a: int, b: int, mode: str = mode, prefix: str = prefix) -> int:
                if mode == "wrap":
                    b &= 31
                if b >= 32 or b == 0:
                    return a if b else 0
                low = a & ((1 << b) - 1)
                return signed(low, b) & ONES32 if prefix == "s" else low

            kind = f"{prefix}32"
            yield Instruction(f"szext.{mode}.{kind}", kind, (kind, "shift"), extend, f"szext<{clamp}>(a, b)")


# For each mode and each value of the two control bits: the source bytes of result bytes 3, 2, 1, 0.
PERMUTATIONS = {
    "f4e": ("3210", "4321", "5432", "6543"),
    "b4e": ("5670", "6701", "7012", "0123"),
    "rc8": ("0000", "1111", "2222", "3333"),
    "ecl": ("3210", "3211", "3222", "3333"),
    "ecr": ("0000", "1110", "2210", "3210"),
    "rc16": ("1010", "3232", "1010", "3232"),
}


def permutation() -> Iterator[Instruction]:
    def generic(a: int, b: int, c: int) -> int:
        source = (b << 32 | a).to_bytes(8, "little")
        result = []
        for nibble in (c >> shift & 15 for shift in (0, 4, 8, 12)):
            byte = source[nibble & 7]
            result.append((0xFF if byte & 0x80 else 0) if nibble & 8 else byte)
        return int.from_bytes(bytes(result), "little")

    yield Instruction("prmt.b32", "b32", ("b32",) * 3, generic, "prmt(a, b, c)")
    for mode, rows in PERMUTATIONS.items():

        def special(a: int, b: int, c: int, rows: tuple[str, ...] = rows) -> int:
            source = (b << 32 | a).to_bytes(8, "little")
            return int.from_bytes(bytes(source[int(digit)] for digit in rows[c & 3]), "big")

        yield Instruction(f"prmt.b32.{mode}", "b32", ("b32",) * 3, special, f"prmt<Permutation::{mode}>(a, b, c)")


INSTRUCTIONS = [*logic(), *shifts(), *counting(), *fields(), *permutation()]
