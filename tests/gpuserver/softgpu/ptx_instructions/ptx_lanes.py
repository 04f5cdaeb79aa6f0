"""The arithmetic headers behind a C interface: one loop over 32-lane blocks for each declared form that has a lane."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ptx_declare import LANE_TYPES, NAMES, Instruction
from ptx_operands import WIDTHS

ROOT = Path(__file__).resolve().parents[4]
HEADERS = ROOT / "gpuserver" / "softgpu"
BUILD = ROOT / "build" / "ptx_lanes"


def compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++"):
        if name and (found := shutil.which(name)):
            return found
    raise RuntimeError("no C++ compiler (c++, g++ or $CXX) on PATH: the build needs one too")


def symbol(instruction: Instruction) -> str:
    return "lane_" + hashlib.sha256(repr((instruction.name, instruction.inputs)).encode()).hexdigest()[:20]


def source(instructions: list[Instruction]) -> str:
    lines = ['#include "engine/arithmetic/arithmetic.h"', "namespace softgpu::arithmetic {"]
    for one in instructions:
        types = [LANE_TYPES[kind] for kind in one.inputs]
        out = f"uint{max(WIDTHS[one.output], 8)}_t" if one.output == "pred" else LANE_TYPES[one.output]
        parameters = ", ".join(f"const {kind}* pa_{NAMES[i]}" for i, kind in enumerate(types))
        loads = " ".join(f"{kind} {NAMES[i]} = pa_{NAMES[i]}[i];" for i, kind in enumerate(types))
        lines += [
            f'extern "C" void {symbol(one)}({out}* __restrict d, {parameters}) {{',
            f"    for (int i = 0; i < 32; ++i) {{ {loads} d[i] = static_cast<{out}>({one.lane}); }}",
            "}",
        ]
    return "\n".join([*lines, "}"]) + "\n"


def build(instructions: list[Instruction], name: str, flags: list[str]) -> ctypes.CDLL:
    """Compile (once for a given text of headers, lanes and flags) and load."""
    text = source([one for one in instructions if one.lane])
    headers = b"".join(path.read_bytes() for path in sorted((HEADERS / "engine" / "arithmetic").glob("*.h")))
    key = hashlib.sha256(text.encode() + headers + " ".join(flags).encode()).hexdigest()[:16]
    library = BUILD / f"{name}-{key}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        file = BUILD / f"{name}-{key}.cpp"
        file.write_text(text)
        command = [compiler(), "-std=c++20", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        partial = library.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, *flags, f"-I{HEADERS}", str(file), "-o", str(partial)], check=True)
        partial.replace(library)
    return ctypes.CDLL(str(library))


def run(library: ctypes.CDLL, instruction: Instruction, tuples: list[tuple[int, ...]]) -> list[int]:
    """The results for all operand tuples; their number is a multiple of 32."""
    count = len(tuples)
    inputs = [
        b"".join(bits.to_bytes(WIDTHS[kind] // 8, "little") for bits in column)
        for kind, column in zip(instruction.inputs, zip(*tuples, strict=True), strict=True)
    ]
    size = WIDTHS[instruction.output] // 8
    output = ctypes.create_string_buffer(count * size)
    buffers = [ctypes.create_string_buffer(data, len(data)) for data in inputs]
    function = getattr(library, symbol(instruction))
    for block in range(0, count, 32):
        arguments = [
            ctypes.c_void_p(ctypes.addressof(buffer) + block * WIDTHS[kind] // 8)
            for kind, buffer in zip(instruction.inputs, buffers, strict=True)
        ]
        function(ctypes.c_void_p(ctypes.addressof(output) + block * size), *arguments)
    raw = output.raw
    return [int.from_bytes(raw[i * size : (i + 1) * size], "little") for i in range(count)]
