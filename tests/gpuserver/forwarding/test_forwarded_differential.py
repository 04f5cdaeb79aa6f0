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
from gpuserver.protocol.specification import read_specification
from gpuserver.softgpu.command import program_environment

PROGRAM = Path(__file__).resolve().parent / "differential_calls.py"
BATCHES = 4


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


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_call_answers_the_same(software_server: GpuServer, tmp_path: Path, batch: int) -> None:
    steps = plan()
    size = -(-len(steps) // BATCHES)
    mine = steps[batch * size : (batch + 1) * size]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(mine))
    native = run_natively(path).splitlines()
    done = software_server.run(sys.executable, str(PROGRAM), str(path), timeout=300)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-300:]}{done.stderr[-2000:]}"
    forwarded = done.stdout.splitlines()
    assert len(native) == len(forwarded) == len(mine)
    different = [
        f"{one} | {other} | {json.dumps(mine[i][1])}"
        for i, (one, other) in enumerate(zip(native, forwarded, strict=True))
        if one != other
    ]
    assert not different, "native | forwarded | arguments\n" + "\n".join(different)
