"""Code images for tests, made by the real nvcc of the PyPI wheels."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

SOURCE = """
__constant__ int step[2] = {3, 5};
__device__ int counter = 7;
__managed__ int shared_counter = 11;
extern "C" __global__ void add(int *out, int n, char odd) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] += step[i & 1] * odd;
    if (i == 0) atomicAdd(&counter, 1);
}
extern "C" __global__ void __launch_bounds__(64) small() { __shared__ volatile int words[100]; words[threadIdx.x] = 1; }
"""
# Two units that need each other.
CALLER = 'extern "C" __device__ int twice(int); extern "C" __global__ void call(int *out) { *out = twice(21); }'
CALLEE = 'extern "C" __device__ int twice(int x) { return 2 * x; }'


def toolkit() -> Path:
    """The folder nvidia/cu13 of this Python's site-packages."""
    return sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin/nvcc"))[-1].parent.parent


def nvcc(source: str, output: Path, *flags: str) -> Path:
    """Compiles CUDA C++ to whatever `flags` ask for."""
    file = output.with_suffix(".cu")
    file.write_text(source)
    command = [str(toolkit() / "bin" / "nvcc"), *flags, str(file), "-o", str(output)]
    # Without what tests.long.sanitized puts in front of this process: the toolkit's programs do not run with it.
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    return output
