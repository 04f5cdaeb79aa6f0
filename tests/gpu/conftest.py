"""One machine with an NVIDIA GPU: each program natively, and forwarded to a GPU server on the same machine.

Without a GPU, or without a program's packages, the tests are skipped and say which. Programs print one JSON object:
`output` (what must agree) and `seconds` (of the measured part). Their times are reported, never asserted.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "gpuserver" / "forwarding")]

from gpu_server import GpuServer, gpu_server, surroundings  # noqa: E402

PROGRAM_SECONDS = 1800


def why_no_gpu() -> str:
    """Empty where NVIDIA's driver answers with at least one GPU; else what is missing.

    Asked in a process of its own: here another test may have loaded a libcuda.so.1 of ours already.
    """
    question = """
import ctypes
driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
    raise SystemExit("NVIDIA's driver finds no GPU")
"""
    asked = subprocess.run(
        [sys.executable, "-c", question], env=surroundings(), capture_output=True, text=True, check=False
    )
    return asked.stderr.strip().rpartition("\n")[2] if asked.returncode else ""


@pytest.fixture(scope="session")
def hardware_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A GPU server of this machine's own GPUs."""
    if reason := why_no_gpu():
        pytest.skip(reason)
    with gpu_server(tmp_path_factory.mktemp("hardware"), "libcuda.so.1") as server:
        yield server


Both = Callable[..., tuple[Any, Any]]


@pytest.fixture
def run_both(hardware_server: GpuServer, record_property: Callable[[str, object], None]) -> Both:
    """run_both(program, *arguments, needs=packages, tools=commands, VARIABLE="…") → what it printed, both ways."""

    def run(
        program: str, *arguments: str, needs: tuple[str, ...] = (), tools: tuple[str, ...] = (), **variables: str
    ) -> tuple[Any, Any]:
        missing = [package for package in needs if importlib.util.find_spec(package) is None]
        missing += [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")
        command = [sys.executable, str(HERE / "programs" / f"{program}.py"), *arguments]
        native = subprocess.run(
            command, env=surroundings(**variables), capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
        )
        assert native.returncode == 0, native.stderr[-4000:]
        forwarded = hardware_server.run(*command, timeout=PROGRAM_SECONDS, GPUFERRY_STATS="1", **variables)
        assert forwarded.returncode == 0, forwarded.stderr[-4000:]
        first, second = (json.loads(done.stdout.splitlines()[-1]) for done in (native, forwarded))
        record_property("native_seconds", first["seconds"])
        record_property("forwarded_seconds", second["seconds"])
        sys.stdout.write(f"{program} {' '.join(arguments)}: {second['seconds'] / first['seconds']:.3f} of native\n")
        return first["output"], second["output"]

    return run
