"""JAX 0.10.2 of PyPI with CUDA 13. XLA's assembler is replaced by one that hands PTX on (stand_ins/ptxas)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.framework import Case, Framework, in_virtual_environment, make_virtual_environment
from tests.long.frameworks.stand_ins import put_assembler, with_device_file


def prepare(folder: Path) -> None:
    make_virtual_environment(folder, "jax[cuda13]==0.10.2")
    put_assembler(folder)


def command(folder: Path, program: Sequence[str]) -> list[str]:
    return with_device_file(in_virtual_environment(folder, program))


FRAMEWORK = Framework(
    prepare,
    command,
    cases=(
        Case("numerics", "jax_ways", ("numerics", "small")),
        Case("fourier", "jax_ways", ("fourier", "small")),
        Case("training", "jax_ways", ("training", "small")),
        Case("step", "jax_step"),
        Case("two-gpus", "jax_ways", ("two", "small"), devices=2),
        Case("memory", "jax_ways", ("memory", "small")),
        Case("memory-async", "jax_ways", ("memory", "small"), {"XLA_PYTHON_CLIENT_ALLOCATOR": "cuda_async"}),
        Case("memory-no-reserve", "jax_ways", ("training", "small"), {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),
    ),
    variables={
        "JAX_PLATFORMS": "cuda,cpu",
        # The assembler of its own process, not the libraries; kernels are not chosen by their speed.
        "XLA_FLAGS": "--xla_gpu_enable_libnvptxcompiler=false --xla_gpu_enable_libnvjitlink=false "
        "--xla_gpu_autotune_level=0",
    },
    # One that cuBLAS and cuFFT do not know: they give PTX, and XLA compiles for the newest that it knows.
    device={"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": "99.0"},
)
