"""The program of the demo: plain CUDA C++, compiled by the stock compiler, knowing nothing of gpuferry."""

from __future__ import annotations

from demo.steps import ROOT, Demo
from gpuserver.protocol.header import find_cuda_include

PROGRAMS = ROOT / "demo" / "programs"


def build_program(demo: Demo) -> str:
    """Compile `vector_add` with nvcc."""
    nvcc = find_cuda_include().parent / "bin" / "nvcc"
    demo.run(str(nvcc), "-o", "vector_add", str(PROGRAMS / "vector_add.cu"))
    return f"vector_add, {(demo.work / 'vector_add').stat().st_size >> 10} KiB, statically linked CUDA runtime"
