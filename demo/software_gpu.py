"""Demo steps on the software GPU: real CUDA programs on a machine without a GPU."""

from __future__ import annotations

import sys

from demo.steps import ROOT, Demo, expect
from gpuserver.protocol.header import find_cuda_include

PROGRAMS = ROOT / "demo" / "programs"


def build_program(demo: Demo) -> str:
    """Compile plain CUDA C++ with the stock compiler, knowing nothing of gpuferry."""
    nvcc = find_cuda_include().parent / "bin" / "nvcc"
    demo.run(str(nvcc), "-o", "vector_add", str(PROGRAMS / "vector_add.cu"))
    return f"vector_add, {(demo.work / 'vector_add').stat().st_size >> 10} KiB, statically linked CUDA runtime"


def run_program(demo: Demo) -> str:
    output = demo.gpuferry("softgpu", "exec", "--devices", "2", "--memory", "1024", "--", str(demo.work / "vector_add"))
    lines = output.splitlines()
    expect(len(lines) == 2, f"expected a line for each of 2 devices, got:\n{output}")
    expect(all(line.endswith("1048576 of 1048576 sums right") for line in lines), f"wrong sums:\n{output}")
    return f"2 devices, every sum right: {lines[0]}"


def run_cupy(demo: Demo) -> str:
    script = str(PROGRAMS / "compare_with_numpy.py")
    output = demo.gpuferry("softgpu", "exec", "--memory", "1024", "--", sys.executable, script)
    expect("arange sum 499999500000" in output, f"unexpected output:\n{output}")
    return output.strip()
