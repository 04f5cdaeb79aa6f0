"""TensorFlow 2.21 of PyPI with CUDA 12: its own kernels hold PTX for compute capability 9.0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.framework import Case, Framework, in_virtual_environment, make_virtual_environment

# TensorFlow looks for NVIDIA's libraries on the path of the loader, behind gpuferry's.
WITH_LIBRARIES = (
    'for lib in "$0"/lib/python3*/site-packages/nvidia/*/lib; do LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$lib; done; '
)


def prepare(folder: Path) -> None:
    make_virtual_environment(folder, "tensorflow[and-cuda]==2.21.*")


def command(folder: Path, program: Sequence[str]) -> list[str]:
    script = WITH_LIBRARIES + 'export LD_LIBRARY_PATH; exec "$@"'
    return ["sh", "-c", script, str(folder), *in_virtual_environment(folder, program)]


FRAMEWORK = Framework(
    prepare,
    command,
    # Many operations (arithmetic, functions of one number) are machine code alone: docs/frameworks.md.
    cases=(Case("eager", "tensorflow_ways", ("eager",)),),
    device={"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": "9.0"},
)
