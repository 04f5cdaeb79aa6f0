"""One declaration per instruction form, and the kernel that runs it.

A declaration holds the opcode's text, the operands' types, a reference on bit patterns, and the C++ expression over
`a`, `b`, `c` with which the same form can be checked directly in the arithmetic headers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ptx_formats import FORMATS
from ptx_operands import WIDTHS

PROLOGUE = ".version 8.8\n.target sm_100a\n.address_size 64\n"

# What a lane of each type is in C++.
LANE_TYPES = {
    **{f"u{w}": f"uint{w}_t" for w in (8, 16, 32, 64)},
    **{f"b{w}": f"uint{w}_t" for w in (8, 16, 32, 64)},
    **{f"s{w}": f"int{w}_t" for w in (8, 16, 32, 64)},
    "f16": "f16",
    "bf16": "bf16",
    "f32": "float",
    "f64": "double",
    "f16x2": "f16x2",
    "bf16x2": "bf16x2",
    "f32x2": "f32x2",
    "s16x2": "s16x2",
    "u16x2": "u16x2",
    "pred": "uint32_t",
    "shift": "uint32_t",
}
REGISTER_TYPES = {
    **{f"{k}{w}": f"{k}{max(w, 16)}" for k in "usb" for w in (8, 16, 32, 64)},
    "f16": "b16",
    "bf16": "b16",
    "f32": "f32",
    "f64": "f64",
    "f16x2": "b32",
    "bf16x2": "b32",
    "f32x2": "b64",
    "s16x2": "b32",
    "u16x2": "b32",
    "pred": "pred",
    "shift": "u32",
}
NAMES = "abcef"


@dataclass(frozen=True)
class Instruction:
    """`reference(*operands) -> result` on bit patterns (a tuple when there are several outputs).

    `accept(operands, result)`, where given, judges an approximate result instead. `body` replaces the default
    `opcode d, a, b, c;` and may use {d}, {d2}, {a}, {b}, {c} and further instructions; `registers` declares more.
    """

    opcode: str
    output: str
    inputs: tuple[str, ...]
    reference: Callable[..., int]
    lane: str = ""
    suffix: str = ""  # further operand text, e.g. ", 0x96"
    body: str = ""
    registers: str = ""
    accept: Callable[[tuple[int, ...], int], str | None] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return self.opcode + (" " + self.suffix.strip(", ") if self.suffix else "")


def widened(kind: str) -> str:
    """The memory type that holds a value: registers of 8-bit values are 16 bits wide, predicates are u32."""
    if kind == "pred":
        return "u32"
    if kind in ("u8", "s8", "b8"):
        return kind.replace("8", "16")
    return REGISTER_TYPES[kind]


def stored_width(kind: str) -> int:
    """Bits of the result as stored: 8-bit results are stored extended in 16."""
    return max(WIDTHS[kind], 16)


def kernel(instruction: Instruction, name: str) -> str:
    """A kernel of parameters (a*, b*, c*, ..., d*, u32 count), one element per thread."""
    parameters = [f"    .param .u64 {NAMES[i]}_array" for i in range(len(instruction.inputs))]
    parameters += ["    .param .u64 d_array", "    .param .u32 count"]
    lines = [f".visible .entry {name}(", ",\n".join(parameters), ")", "{"]
    names = {}
    for i, kind in enumerate(instruction.inputs):
        names[NAMES[i]] = f"%{NAMES[i]}"
        lines.append(f"    .reg .{REGISTER_TYPES[kind]} %{NAMES[i]};")
    lines.append(f"    .reg .{REGISTER_TYPES[instruction.output]} %d;")
    names["d"] = "%d"
    lines += [
        "    .reg .u32 %index, %limit, %block, %threads, %flag;",
        "    .reg .u64 %address, %offset;",
        "    .reg .pred %outside;",
    ]
    if instruction.registers:
        lines.append("    " + instruction.registers)
    lines += [
        "    mov.u32 %block, %ctaid.x;",
        "    mov.u32 %threads, %ntid.x;",
        "    mov.u32 %index, %tid.x;",
        "    mad.lo.u32 %index, %block, %threads, %index;",
        "    ld.param.u32 %limit, [count];",
        "    setp.ge.u32 %outside, %index, %limit;",
        "    @%outside ret;",
    ]
    for i, kind in enumerate(instruction.inputs):
        size = WIDTHS[kind] // 8
        load = f"{kind[0]}8" if kind in ("u8", "s8", "b8") else widened(kind)
        lines += [
            f"    ld.param.u64 %address, [{NAMES[i]}_array];",
            f"    mul.wide.u32 %offset, %index, {size};",
            "    add.u64 %address, %address, %offset;",
            f"    ld.global.{load} {'%flag' if kind == 'pred' else '%' + NAMES[i]}, [%address];",
        ]
        if kind == "pred":
            lines.append(f"    setp.ne.u32 %{NAMES[i]}, %flag, 0;")
    if instruction.body:
        lines += [
            "    " + line.strip() for line in instruction.body.format(op=instruction.opcode, **names).splitlines()
        ]
    else:
        operand_text = ", ".join(["%d", *(names[NAMES[i]] for i in range(len(instruction.inputs)))])
        lines.append(f"    {instruction.opcode} {operand_text}{instruction.suffix};")
    size = stored_width(instruction.output) // 8
    store = widened(instruction.output)
    if instruction.output == "pred":
        lines.append("    selp.u32 %flag, 1, 0, %d;")
    lines += [
        "    ld.param.u64 %address, [d_array];",
        f"    mul.wide.u32 %offset, %index, {size};",
        "    add.u64 %address, %address, %offset;",
        f"    st.global.{store} [%address], {'%flag' if instruction.output == 'pred' else '%d'};",
        "    ret;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def extend(kind: str, bits: int) -> int:
    """An 8-bit result as its 16-bit register holds it."""
    if kind == "s8" and bits & 0x80:
        return bits & 0xFF | 0xFF00
    return bits


def difference(instruction: Instruction, operand_bits: tuple[int, ...], got: int) -> str | None:
    """What is wrong with one result, or None."""
    if instruction.accept is not None:
        return instruction.accept(operand_bits, got)
    want = extend(instruction.output, instruction.reference(*operand_bits))
    if got == want:
        return None
    digits = stored_width(instruction.output) // 4
    shown = ", ".join(
        f"0x{bits:0{WIDTHS[kind] // 4}x}" + (f" ({_readable(kind, bits)})" if kind in FORMATS else "")
        for kind, bits in zip(instruction.inputs, operand_bits, strict=True)
    )
    return f"{instruction.name}({shown}) = 0x{got:0{digits}x}, expected 0x{want:0{digits}x}"


def _readable(kind: str, bits: int) -> str:
    from ptx_formats import to_float

    return f"{to_float(FORMATS[kind], bits):.9g}"
