"""Tests that call the software GPU's driver API through cuda-bindings, each in a process of its own.

    @software_gpu(devices="2", memory_mib="64")
    def test_something() -> None:
        stream = ok(cu.cuStreamCreate(0))

In the test run the decorated function starts a process with the software libcuda.so.1 in front of any other and runs the
body there: configuration, sticky errors and device memory of one test never meet those of another.
"""

from __future__ import annotations

import functools
import inspect
import os
import runpy
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
INSIDE = "GPUFERRY_TEST_CASE"


def software_gpu(**settings: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Run the test on the software GPU with these settings (`memory_mib="64"`), each device with a UUID of its own."""

    def decorate(test: Callable[[], None]) -> Callable[[], None]:
        if os.environ.get(INSIDE):
            return test

        @functools.wraps(test)
        def outside() -> None:
            run_case(inspect.getfile(test), test.__name__, **settings)

        return outside

    return decorate


def run_case(file: str, name: str, /, **settings: str) -> str:
    """Run the function `name` of `file` in a process of its own; its standard output."""
    from software_gpu import environment

    count = int(settings.get("devices", "1"))
    settings.setdefault("uuid", ",".join(f"GPU-{uuid.uuid4()}" for _ in range(count)))
    surroundings = environment(**settings) | {INSIDE: "1"}
    surroundings["PYTHONPATH"] += os.pathsep + str(Path(__file__).resolve().parent)
    done = subprocess.run(
        [sys.executable, __file__, file, name],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ok(result: tuple[Any, ...]) -> Any:
    """The values of a call that must succeed."""
    from cuda.bindings import driver

    assert result[0] == driver.CUresult.CUDA_SUCCESS, result[0]
    return result[1] if len(result) == 2 else result[1:]


def refused(result: tuple[Any, ...], name: str) -> None:
    """The call must fail with CUDA_ERROR_`name`."""
    assert result[0].name == f"CUDA_ERROR_{name}", result[0]


def primary(device: int = 0) -> Any:
    """Initialise, and make the device's primary context current."""
    from cuda.bindings import driver

    ok(driver.cuInit(0))
    context = ok(driver.cuDevicePrimaryCtxRetain(device))
    ok(driver.cuCtxSetCurrent(context))
    return context


if __name__ == "__main__":
    runpy.run_path(sys.argv[1])[sys.argv[2]]()
