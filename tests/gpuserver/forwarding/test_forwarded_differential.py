"""Every forwarded function, natively and forwarded, with arguments made up from the specification: the same answers."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from differential_plan import Step, make_plan
from gpu_server import GpuServer, surroundings

from gpuserver.native import find_native
from gpuserver.protocol.declare import Class
from gpuserver.protocol.specification import read_specification
from gpuserver.softgpu.command import program_environment

PROGRAM = Path(__file__).resolve().parent / "differential_calls.py"
BATCHES = 4
# Functions whose answers differ, each with the reason.
OTHERWISE: dict[str, str] = {}


@functools.cache
def posted() -> frozenset[str]:
    """The functions that are declared as posted."""
    calls = read_specification().calls.values()
    return frozenset(c.symbol for c in calls if c.call_class in (Class.ASYNC, Class.CREATE))


@functools.cache
def plan() -> list[Step]:
    return make_plan(read_specification())


def run_natively(path: Path) -> str:
    folder = find_native("gpuserver/softgpu/lib/libcuda.so.1").parent
    environment = program_environment(folder, surroundings(GPUFERRY_SOFTGPU_MEMORY_MIB="1024"))
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-300:]}{done.stderr[-2000:]}"
    return done.stdout


NOT_SUPPORTED = 801
# What is reported later than natively, by the next call that waits: posted calls whose arguments only the driver can
# judge. The code is the same.
LATER = "posted: the next call that waits reports it"


def answers(line: str) -> tuple[str, int, int, str]:
    """Symbol, the call's code, the code of the wait behind it, small numbers that came out."""
    _, symbol, code, waited, *numbers = line.split(" ")
    return symbol, int(code), int(waited), " ".join(numbers).strip()


def difference(native: str, forwarded: str) -> str:
    """Empty for the same answer; LATER for the same code from the next call that waits."""
    symbol, code, waited, numbers = answers(native)
    other_symbol, other_code, other_waited, other_numbers = answers(forwarded)
    assert symbol == other_symbol
    if (code, waited, numbers) == (other_code, other_waited, other_numbers):
        return ""
    if code and (other_code, other_waited) == (0, code):
        return LATER
    return f"{symbol}: natively {code} {waited} {numbers!r}, forwarded {other_code} {other_waited} {other_numbers!r}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_call_answers_the_same(software_server: GpuServer, tmp_path: Path, batch: int) -> None:
    steps = plan()
    size = -(-len(steps) // BATCHES)
    mine = steps[batch * size : (batch + 1) * size]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(mine))
    native = run_natively(path).splitlines()
    assert len(native) == len(mine)
    # What the software GPU does not have cannot be compared.
    known = [i for i, line in enumerate(native) if answers(line)[1] != NOT_SUPPORTED]
    path.write_text(json.dumps([mine[i] for i in known]))
    done = software_server.run(sys.executable, str(PROGRAM), str(path), timeout=300)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-300:]}{done.stderr[-2000:]}"
    forwarded = done.stdout.splitlines()
    assert len(forwarded) == len(known)
    wrong = []
    for i, line in zip(known, forwarded, strict=True):
        symbol, arguments = mine[i]
        found = difference(native[i], line)
        if found and found != LATER and symbol not in OTHERWISE:
            wrong.append(f"{found} | {json.dumps(arguments)}")
        if found == LATER and symbol not in posted():
            wrong.append(f"{symbol} is not posted but reports its error late | {json.dumps(arguments)}")
    assert not wrong, "\n".join(wrong)
