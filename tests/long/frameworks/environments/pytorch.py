"""PyTorch 2.6 of Debian 13 (contrib): its kernels come as PTX, which PyTorch's own wheels do not hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.debian import in_tree, make_tree, run_in_tree
from tests.long.frameworks.framework import Case, Framework


def prepare(folder: Path) -> None:
    # Debian's nvidia-cudnn downloads its files at installation; libcuda1 is the library that stands to be replaced.
    make_tree(folder, "trixie", ["python3-torch-cuda"], {"nvidia-cudnn": "9.0.0.312", "libcuda1": "999"})
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target"]
    # libtorch_cuda is linked with cuDNN, so it has to be there; this is the release that PyTorch 2.6 was built with.
    subprocess.run([*pip, str(folder / "opt/cudnn"), "nvidia-cudnn-cu12==9.1.0.70"], check=True)
    (folder / "etc/ld.so.conf.d/cudnn.conf").write_text("/opt/cudnn/nvidia/cudnn/lib\n")
    run_in_tree(folder, "ldconfig")


def command(folder: Path, program: Sequence[str]) -> list[str]:
    return in_tree(folder, ["/usr/bin/python3", *program])


FRAMEWORK = Framework(
    prepare,
    command,
    cases=(Case("training", "torch_training", ("eager", "small")),),
    device={"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": "99.0"},
)
