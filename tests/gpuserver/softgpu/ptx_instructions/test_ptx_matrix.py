"""Matrices that a warp holds together: mma, ldmatrix, stmatrix, movmatrix, against NumPy.

Which lane holds which element comes from the tables of PTX ISA 9.7.14.5, by the number of the element in the lane. Sums
of floats are exact here, since the operands are small integers: PTX leaves their order open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ptx_declare import PROLOGUE
from ptx_engine import EngineError, Program

LANES = 32
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Form:
    """mma.sync.aligned.SHAPE.row.col.D.A.B.C"""

    rows: int
    depth: int
    types: tuple[str, str, str, str]  # of D, A, B, C
    satfinite: bool = False

    @property
    def name(self) -> str:
        saturation = ".satfinite" if self.satfinite else ""
        return f"mma.sync.aligned.m{self.rows}n8k{self.depth}.row.col{saturation}.{'.'.join(self.types)}"

    @property
    def packed(self) -> int:
        """Elements of A and B in a register."""
        return {"f16": 2, "bf16": 2, "tf32": 1, "f64": 1, "s8": 4, "u8": 4, "s4": 8, "u4": 8}[self.types[1]]


HALF = ("f16", "f16", "f16", "f16")
FORMS = [
    *(Form(16, k, (d, "f16", "f16", c)) for k in (8, 16) for d, c in (("f32", "f32"), ("f16", "f16"))),
    *(Form(16, k, ("f32", "bf16", "bf16", "f32")) for k in (8, 16)),
    *(Form(16, k, ("f32", "tf32", "tf32", "f32")) for k in (4, 8)),
    *(Form(rows, k, ("f64",) * 4) for rows, k in ((8, 4), (16, 4), (16, 8), (16, 16))),
    *(
        Form(rows, k, ("s32", a, b, "s32"), full)
        for rows, k in ((8, 16), (16, 16), (16, 32))
        for a, b, full in (("s8", "s8", False), ("u8", "u8", True), ("s8", "u8", True), ("u8", "s8", False))
    ),
    *(
        Form(rows, k, ("s32", a, b, "s32"), full)
        for rows, k in ((8, 32), (16, 32), (16, 64))
        for a, b, full in (("s4", "s4", True), ("u4", "u4", False), ("s4", "u4", False))
    ),
]


Place = Callable[[Form, int, int], tuple[int, int]]


def place_a(form: Form, lane: int, element: int) -> tuple[int, int]:
    p, half = form.packed, form.rows // 8
    row = lane // 4 + 8 * (element // p % half)
    return row, lane % 4 * p + element % p + element // (p * half) * 4 * p


def place_b(form: Form, lane: int, element: int) -> tuple[int, int]:
    p = form.packed
    return lane % 4 * p + element % p + element // p * 4 * p, lane // 4


def place_c(_: Form, lane: int, element: int) -> tuple[int, int]:
    return lane // 4 + 8 * (element // 2), lane % 4 * 2 + element % 2


def encode(values: Array, kind: str) -> npt.NDArray[np.uint64]:
    """Bit patterns of numbers."""
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16).astype(np.uint64)
    if kind == "bf16":
        return values.astype(np.float32).view(np.uint32).astype(np.uint64) >> np.uint64(16)
    if kind in ("tf32", "f32"):
        return values.astype(np.float32).view(np.uint32).astype(np.uint64)
    if kind == "f64":
        return values.astype(np.float64).view(np.uint64)
    return values.astype(np.int64).view(np.uint64) & np.uint64((1 << int(kind[1:])) - 1)


def fragments(form: Form, matrix: Array, place: Place, kind: str) -> Array:
    """The registers of all lanes, [register, lane]."""
    bits, width = encode(matrix, kind), {"tf32": 32, "bf16": 16}.get(kind) or int(kind[1:])
    word = max(width, 32)
    each = word // width
    count = matrix.size // LANES // each
    words = np.zeros((count, LANES), np.uint64)
    for register in range(count):
        for lane in range(LANES):
            for e in range(each):
                words[register, lane] |= bits[place(form, lane, register * each + e)] << np.uint64(e * width)
    return words.astype(np.uint64 if word == 64 else np.uint32)


def kernel(form: Form, sizes: list[int]) -> str:
    wide = form.types[1] == "f64"
    element, total = ("f64", "f64") if wide else ("b32", form.types[0])
    kinds = ["b32" if form.types[0] == "f16" else total, element, element, "b32" if form.types[3] == "f16" else total]
    text = PROLOGUE + ".visible .entry test(.param .u64 d, .param .u64 a, .param .u64 b, .param .u64 c) {\n"
    text += ".reg .b64 %place, %base;\n.reg .b32 %lane;\nmov.u32 %lane, %tid.x;\n"
    text += f"mul.wide.u32 %place, %lane, {8 if wide else 4};\n"
    for name, count, kind in zip("dabc", sizes, kinds, strict=True):
        text += f".reg .{kind} %{name}<{count}>;\n"
        if name != "d":
            text += f"ld.param.u64 %base, [{name}];\nadd.u64 %base, %base, %place;\n"
            for k in range(count):
                text += f"ld.global.{kind} %{name}{k}, [%base+{k * LANES * (8 if wide else 4)}];\n"
    groups = [
        "{" + ", ".join(f"%{name}{k}" for k in range(count)) + "}" for name, count in zip("dabc", sizes, strict=True)
    ]
    text += f"{form.name} {', '.join(groups)};\nld.param.u64 %base, [d];\nadd.u64 %base, %base, %place;\n"
    for k in range(sizes[0]):
        text += f"st.global.{kinds[0]} [%base+{k * LANES * (8 if wide else 4)}], %d{k};\n"
    return text + "ret;\n}\n"


def random_matrix(dice: np.random.Generator, shape: tuple[int, int], kind: str) -> Array:
    if kind[0] in "su" and kind != "s32":
        bits = int(kind[1:])
        low, high = (-(1 << bits - 1), (1 << bits - 1)) if kind[0] == "s" else (0, 1 << bits)
        return dice.integers(low, high, shape)
    if kind == "s32":  # near both ends too
        return dice.choice(np.array([-(1 << 31), (1 << 31) - 1, 5, -1000]), shape)
    return dice.integers(-8, 9, shape).astype(np.float64)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_mma(form: Form) -> None:
    dice = np.random.default_rng(form.rows * form.depth)
    a = random_matrix(dice, (form.rows, form.depth), form.types[1])
    b = random_matrix(dice, (form.depth, 8), form.types[2])
    c = random_matrix(dice, (form.rows, 8), form.types[3])
    exact = a @ b + c
    if form.types[0] == "s32":
        exact = np.clip(exact, -(1 << 31), (1 << 31) - 1) if form.satfinite else exact.astype(np.int32)
    parts = [
        fragments(form, matrix, place, kind)
        for matrix, place, kind in zip((a, b, c), (place_a, place_b, place_c), form.types[1:], strict=True)
    ]
    expected = fragments(form, exact, place_c, form.types[0])
    got = np.zeros_like(expected)
    with Program(kernel(form, [len(expected), *map(len, parts)])) as program:
        program.launch("test", got, *parts)
    assert np.array_equal(got, expected)


def test_mma_rounds_once_and_makes_nan_canonical() -> None:
    """2048 + 1 has no f16; an infinity times zero is no number."""
    form = Form(16, 8, HALF)
    a, b, c = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
    a[0, 0], b[0, 0], c[0, 0], a[0, 1], b[1, 0] = 2048, 1, 0.5, 1, 0.5
    a[3, 2] = np.inf
    exact = c.copy()
    exact[0] = 0
    exact[0, 0] = 2049
    parts = [fragments(form, m, p, "f16") for m, p in ((a, place_a), (b, place_b), (c, place_c))]
    got = np.zeros((2, LANES), np.uint32)
    with Program(kernel(form, [2, *map(len, parts)])) as program:
        program.launch("test", got, *parts)
    expected = fragments(form, exact, place_c, "f16")
    expected[0, 12:16] = 0x7FFF7FFF  # row 3
    assert np.array_equal(got, expected)


def test_mma_with_the_wrong_number_of_registers_is_refused() -> None:
    form = Form(16, 16, ("f32", "f16", "f16", "f32"))
    with pytest.raises(EngineError, match="operand 2 has 2 registers, not 4"), Program(kernel(form, [4, 2, 2, 4])):
        pass


def matrix_kernel(body: str) -> str:
    """%row: the shared address of 16 bytes that a lane names; %word: of 4. %base and %offset: of a word of `in`."""
    return (
        f"{PROLOGUE}.visible .entry test(.param .u64 in, .param .u64 out) {{\n"
        ".reg .b64 %base, %offset;\n.reg .b32 %lane, %row, %word, %start, %r<4>;\n.reg .b32 %x;\n"
        ".shared .align 16 .b8 memory[512];\n"
        "mov.u32 %lane, %tid.x;\nmov.u32 %start, memory;\nmad.lo.u32 %row, %lane, 16, %start;\n"
        "mad.lo.u32 %word, %lane, 4, %start;\nmul.wide.u32 %offset, %lane, 4;\n"
        "ld.param.u64 %base, [in];\nadd.u64 %base, %base, %offset;\n" + body + "\nret;\n}\n"
    )


FILL = "\n".join(f"ld.global.b32 %x, [%base+{128 * k}];\nst.shared.b32 [%word+{128 * k}], %x;" for k in range(4))
TO_OUT = "ld.param.u64 %base, [out];\nadd.u64 %base, %base, %offset;\n"
DRAIN = TO_OUT + "\n".join(
    f"ld.shared.b32 %x, [%word+{128 * k}];\nst.global.b32 [%base+{128 * k}], %x;" for k in range(4)
)


def squares(words: Array) -> Array:
    """Four 8x8 matrices of 16 bits."""
    return words.view(np.uint16).reshape(4, 8, 8)


def held(square: Array) -> list[int]:
    """The word of each lane that holds a part of an 8x8 matrix."""
    return [
        int(square[lane // 4, lane % 4 * 2]) | int(square[lane // 4, lane % 4 * 2 + 1]) << 16 for lane in range(LANES)
    ]


@pytest.mark.parametrize("transposed", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix(count: int, transposed: str) -> None:
    registers = ", ".join(f"%r{k}" for k in range(count))
    body = f"{FILL}\nbar.sync 0;\nldmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 {{{registers}}}, [%row];\n"
    body += TO_OUT + "\n".join(f"st.global.b32 [%base+{128 * k}], %r{k};" for k in range(count))
    words = np.random.default_rng(count).integers(0, 1 << 32, 128, dtype=np.uint32)
    got = np.zeros(128, np.uint32)
    with Program(matrix_kernel(body)) as program:
        program.launch("test", words, got)
    for k in range(count):
        square = squares(words)[k]
        assert got[32 * k : 32 * k + 32].tolist() == held(square.T if transposed else square), k


@pytest.mark.parametrize("count", [1, 2])
def test_ldmatrix_of_bytes(count: int) -> None:
    """m16n16: what mma's B wants of a matrix whose rows are k; each lane has four of them from one column."""
    registers = ", ".join(f"%r{k}" for k in range(2 * count))
    body = f"{FILL}\nbar.sync 0;\nldmatrix.sync.aligned.m16n16.x{count}.trans.shared.b8 {{{registers}}}, [%row];\n"
    body += TO_OUT + "\n".join(f"st.global.b32 [%base+{128 * k}], %r{k};" for k in range(2 * count))
    words = np.random.default_rng(count).integers(0, 1 << 32, 128, dtype=np.uint32)
    got = np.zeros(128, np.uint32)
    with Program(matrix_kernel(body)) as program:
        program.launch("test", words, got)
    matrices = words.view(np.uint8).reshape(2, 16, 16)
    for register in range(2 * count):
        for lane in range(LANES):
            row, column = lane % 4 * 4, lane // 4 + 8 * (register % 2)
            expected = matrices[register // 2, row : row + 4, column].copy().view(np.uint32)[0]
            assert got[32 * register + lane] == expected, (register, lane)


@pytest.mark.parametrize("transposed", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix(count: int, transposed: str) -> None:
    registers = ", ".join(f"%r{k}" for k in range(count))
    body = "\n".join(f"ld.global.b32 %r{k}, [%base+{128 * k}];" for k in range(count))
    body += (
        f"\nstmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 [%row], {{{registers}}};\nbar.sync 0;\n{DRAIN}"
    )
    words = np.random.default_rng(count).integers(0, 1 << 32, 128, dtype=np.uint32)
    got = np.zeros(128, np.uint32)
    with Program(matrix_kernel(body)) as program:
        program.launch("test", words, got)
    for k in range(count):
        square = squares(got)[k]
        assert held(square.T if transposed else square) == words[32 * k : 32 * k + 32].tolist(), k


def test_movmatrix() -> None:
    body = "ld.global.b32 %r0, [%base];\nmovmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0;\n"
    body += f"{TO_OUT}st.global.b32 [%base], %r1;"
    words = np.random.default_rng(9).integers(0, 1 << 32, 128, dtype=np.uint32)
    got = np.zeros(128, np.uint32)
    with Program(matrix_kernel(body)) as program:
        program.launch("test", words, got)
    assert got[:32].tolist() == held(squares(words)[0].T)


@pytest.mark.parametrize(("offset", "fault"), [("8", "misaligned_address"), ("4096", "illegal_address")])
def test_ldmatrix_of_a_wrong_row_faults(offset: str, fault: str) -> None:
    body = f"ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r0}}, [%row+{offset}];\n"
    words = np.zeros(128, np.uint32)
    with Program(matrix_kernel(body)) as program, pytest.raises(EngineError) as raised:
        program.launch("test", words, words.copy())
    assert raised.value.fault == fault
