"""How fast the software GPU is: SAXPY, a tiled matrix product, a CuPy reduction, each beside NumPy in the same run.

    python benchmarks/softgpu.py [--output FOLDER] [--repeat N]

Prints a table and writes `softgpu.json`. The figures are the best of N runs, in seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from gpuserver.protocol.header import find_cuda_include

ROOT = Path(__file__).resolve().parent.parent
EXEC = (sys.executable, "-m", "clientagent.command", "softgpu", "exec", "--")
CUPY = """
import time, cupy
x = cupy.arange(1 << 24, dtype=cupy.float32)
x.sum()
cupy.cuda.Device().synchronize()
start = time.perf_counter()
total = float(x.sum(dtype=cupy.float64))
print("cupy_sum %.6f" % (time.perf_counter() - start))
assert total == (1 << 24) * ((1 << 24) - 1) / 2, total
"""


def run(*command: str) -> dict[str, float]:
    done = subprocess.run([*EXEC, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def best(action: Callable[[], object], repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def numpy_seconds(repeat: int) -> dict[str, float]:
    """The same work in NumPy, the yardstick of this machine."""
    x, y = np.full(1 << 24, 3, np.float32), np.full(1 << 24, 1, np.float32)
    a, b = np.full((512, 512), 2, np.float32), np.full((512, 512), 0.5, np.float32)
    return {
        "saxpy": best(lambda: 2 * x + y, repeat),
        "matmul": best(lambda: a @ b, repeat),
        "cupy_sum": best(lambda: x.sum(dtype=np.float64), repeat),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/softgpu_kernels"
        source = ROOT / "benchmarks" / "programs" / "softgpu_kernels.cu"
        nvcc = find_cuda_include().parent / "bin" / "nvcc"
        subprocess.run([str(nvcc), "-O2", "-o", program, str(source)], check=True)
        runs = [run(program) | run(sys.executable, "-c", CUPY) for _ in range(arguments.repeat)]
    yardstick = numpy_seconds(arguments.repeat)
    names = {
        "saxpy": "SAXPY, 16 Mi float32",
        "matmul": "tiled matrix product, 512 x 512 x 512 float32",
        "cupy_sum": "CuPy sum, 16 Mi float32",
    }
    rows = {key: {"seconds": min(r[key] for r in runs), "numpy_seconds": yardstick[key]} for key in names}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "softgpu.json").write_text(json.dumps(rows, indent=1))
    table = Table("work", "software GPU, s", "NumPy, s", "ratio", title="Software GPU")
    for key, row in rows.items():
        ratio = row["seconds"] / row["numpy_seconds"]
        table.add_row(names[key], f"{row['seconds']:.3f}", f"{row['numpy_seconds']:.3f}", f"{ratio:.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
