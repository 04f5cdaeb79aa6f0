"""CUDA C++ test kernels compiled to PTX by the nvcc of the PyPI wheels."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"


def find_nvcc() -> Path:
    """The wheel's nvcc, below this Python's site-packages."""
    for name in ("purelib", "platlib"):
        found = sorted(Path(sysconfig.get_path(name)).glob("nvidia/cu*/bin/nvcc"))
        if found:
            return found[-1]
    raise RuntimeError(f"no nvcc under {sysconfig.get_path('purelib')}: install nvidia-cuda-nvcc for {sys.executable}")


@cache
def compile_to_ptx(name: str, architecture: str = "sm_80", *flags: str) -> str:
    """The PTX of kernels/<name>.cu."""
    command = [str(find_nvcc()), "-ptx", f"-arch={architecture}", *flags, str(KERNELS / f"{name}.cu"), "-o", "-"]
    # Without what tests.long.sanitized puts in front of this process: the toolkit's programs do not run with it.
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert result.returncode == 0, result.stderr
    return result.stdout
