"""PyTorch 2.6 of Debian 13 (contrib): its kernels come as PTX, which PyTorch's own wheels do not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.debian import in_tree, make_tree
from tests.long.frameworks.framework import Case, Framework


def prepare(folder: Path) -> None:
    # Debian's nvidia-cudnn downloads its files at installation; libcuda1 is the library that stands to be replaced.
    make_tree(folder, "trixie", ["python3-torch-cuda"], {"nvidia-cudnn": "9.0.0.312", "libcuda1": "999"})


def command(folder: Path, program: Sequence[str]) -> list[str]:
    return in_tree(folder, ["/usr/bin/python3", *program])


FRAMEWORK = Framework(
    prepare,
    command,
    cases=(Case("training", "torch_training", ("eager", "small")),),
    device={"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": "99.0"},
)
