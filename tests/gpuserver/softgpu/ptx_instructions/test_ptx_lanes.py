"""The arithmetic headers against exact references, compiled for the baseline and for AVX2 with FMA.

The two builds take different paths (fused multiply-add without the instruction, vectorised selects), and must agree.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import pytest
from ptx_catalogue import FAMILIES
from ptx_declare import Instruction, difference, extend
from ptx_lanes import build, run
from ptx_operands import operands

BUILDS = {
    "baseline": ["-O1"],
    "avx2": ["-O3", "-march=x86-64-v3", "-fno-math-errno", "-fno-trapping-math"],
}


def has_avx2() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return " avx2 " in flags and " fma " in flags


@cache
def library(family: str, name: str) -> ctypes.CDLL:
    return build(FAMILIES[family], f"{family}-{name}", BUILDS[name])


@pytest.mark.parametrize("variant", BUILDS)
@pytest.mark.parametrize(
    ("family", "instruction"),
    [(family, one) for family, forms in FAMILIES.items() for one in forms if one.lane],
    ids=lambda value: value if isinstance(value, str) else value.name + "-" + "-".join(value.inputs),
)
def test_lane(family: str, instruction: Instruction, variant: str) -> None:
    if variant == "avx2" and not has_avx2():
        pytest.skip("this processor has no AVX2 and FMA")
    tuples = operands(instruction.inputs, instruction.name)
    results = run(library(family, variant), instruction, tuples)
    wrong = [
        text
        for bits, got in zip(tuples, results, strict=True)
        if (text := difference(instruction, bits, extend(instruction.output, got)))
    ]
    assert not wrong, f"{len(wrong)} of {len(tuples)} wrong:\n" + "\n".join(wrong[:8])
