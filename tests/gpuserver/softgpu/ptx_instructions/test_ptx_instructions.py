"""Every declared instruction form executed by the engine on edge and random operands, against exact references."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_catalogue import FAMILIES
from ptx_declare import PROLOGUE, Instruction, difference, kernel, stored_width
from ptx_engine import Program
from ptx_operands import WIDTHS, operands

DTYPES = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
BLOCK = 96  # three warps; the last block is partly idle


@pytest.mark.parametrize(
    "instruction",
    [one for forms in FAMILIES.values() for one in forms],
    ids=lambda one: one.name + "-" + "-".join(one.inputs),
)
def test_instruction(instruction: Instruction) -> None:
    tuples = operands(instruction.inputs, instruction.name)
    arrays = [
        np.array(column, dtype=DTYPES[WIDTHS[kind]])
        for kind, column in zip(instruction.inputs, zip(*tuples, strict=True), strict=True)
    ]
    output = np.zeros(len(tuples), dtype=DTYPES[stored_width(instruction.output)])
    with Program(PROLOGUE + kernel(instruction, "test")) as program:
        program.launch(
            "test",
            *arrays,
            output,
            np.uint32(len(tuples)),
            grid=((len(tuples) + BLOCK - 1) // BLOCK,),
            block=(BLOCK,),
        )
    wrong = [
        text for bits, got in zip(tuples, output.tolist(), strict=True) if (text := difference(instruction, bits, got))
    ]
    assert not wrong, f"{len(wrong)} of {len(tuples)} wrong:\n" + "\n".join(wrong[:8])
