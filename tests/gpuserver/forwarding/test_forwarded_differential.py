"""Every forwarded function, natively and forwarded, with arguments made up from the specification: the same answers."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import uuid
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
TWO_DIMENSIONS = "that an array has two dimensions is known to the server alone, and its copies are one row's"
CARVED = "small blocks share a granule: the server sees no end between them"
OTHERWISE = {
    "cuGraphDestroyNode": "no node is answered as a wrong one",
    "cuGraphAddMemcpyNode": "a node that copies nothing still has to say between what",
    "cuMemAddressReserve": "addresses come from the session's window, which is smaller than the whole address space",
    "cuMemcpyAtoHAsync_v2": TWO_DIMENSIONS,
    "cuMemcpyAtoH_v2": TWO_DIMENSIONS,
    "cuMemcpyHtoAAsync_v2": TWO_DIMENSIONS,
    "cuMemcpyHtoA_v2": TWO_DIMENSIONS,
    "cuMemcpyPeer": CARVED,
    "cuMemcpyPeerAsync": CARVED,
}


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
    # A GPU of its own: processes share the memory of one.
    own = {"GPUFERRY_SOFTGPU_MEMORY_MIB": "1024", "GPUFERRY_SOFTGPU_UUID": f"GPU-{uuid.uuid4()}"}
    environment = program_environment(folder, surroundings(**own))
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


def difference(native: str, forwarded: str, hopeless: bool) -> str:
    """Empty for the same answer; LATER for the same code from the next call that waits. `hopeless`: the call fails with
    the best arguments that the plan has, so that a wrong one more may be the one that is reported."""
    symbol, code, waited, numbers = answers(native)
    other_symbol, other_code, other_waited, other_numbers = answers(forwarded)
    assert symbol == other_symbol
    if (code, waited, numbers) == (other_code, other_waited, other_numbers):
        return ""
    if code and (other_code, other_waited) == (0, code):
        return LATER
    if hopeless and code and other_code:
        return ""
    return f"{symbol}: natively {code} {waited} {numbers!r}, forwarded {other_code} {other_waited} {other_numbers!r}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_call_answers_the_same(software_server: GpuServer, tmp_path: Path, batch: int) -> None:
    steps = plan()
    functions = list(dict.fromkeys(symbol for symbol, _ in steps))
    chosen = set(functions[batch::BATCHES])
    mine = [step for step in steps if step[0] in chosen]
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
    best = {symbol: answers(line)[1] for line, (symbol, _) in reversed([*zip(native, mine, strict=True)])}
    wrong = []
    for i, line in zip(known, forwarded, strict=True):
        symbol, arguments = mine[i]
        found = difference(native[i], line, bool(best[symbol]))
        if found and found != LATER and symbol not in OTHERWISE:
            wrong.append(f"{found} | {json.dumps(arguments)}")
        if found == LATER and symbol not in posted() and symbol not in OTHERWISE:
            wrong.append(f"{symbol} is not posted but reports its error late | {json.dumps(arguments)}")
    assert not wrong, "\n".join(wrong)
