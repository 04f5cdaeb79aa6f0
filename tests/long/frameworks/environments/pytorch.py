"""PyTorch 2.6 of Debian 13 (contrib): its kernels come as PTX, which PyTorch's own wheels do not hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.debian import in_tree, make_tree, run_in_tree
from tests.long.frameworks.framework import Case, Framework

OWN_LIBRARIES = "/usr/lib/python3/dist-packages/torch/lib"  # where it looks for its linear algebra by name alone


def prepare(folder: Path) -> None:
    # Debian's nvidia-cudnn downloads its files at installation; libcuda1 is the library that stands to be replaced.
    make_tree(folder, "trixie", ["python3-torch-cuda"], {"nvidia-cudnn": "9.0.0.312", "libcuda1": "999"})
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target"]
    # libtorch_cuda is linked with cuDNN, so it has to be there; this is the release that PyTorch 2.6 was built with.
    subprocess.run([*pip, str(folder / "opt/cudnn"), "nvidia-cudnn-cu12==9.1.0.70"], check=True)
    (folder / "etc/ld.so.conf.d/cudnn.conf").write_text(f"/opt/cudnn/nvidia/cudnn/lib\n{OWN_LIBRARIES}\n")
    run_in_tree(folder, "ldconfig")


def command(folder: Path, program: Sequence[str]) -> list[str]:
    return in_tree(folder, ["/usr/bin/python3", *program])


EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
ASYNCHRONOUS = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}


def case(name: str, program: str, argument: str, devices: int = 1, device_mib: int = 4096, **variables: str) -> Case:
    return Case(name, f"torch_{program}", (argument, "small"), variables, devices=devices, device_mib=device_mib)


FRAMEWORK = Framework(
    prepare,
    command,
    cases=(
        case("training", "training", "eager"),
        case("training-graph", "training", "graph"),
        case("training-loader", "training", "loader"),
        case("training-expandable", "training", "eager", **EXPANDABLE),
        case("training-async-allocator", "training", "eager", **ASYNCHRONOUS),
        case("graphs", "memory", "graphs"),
        case("graphed-callables", "memory", "graphed-callables"),
        case("allocator", "memory", "allocator"),
        case("allocator-expandable", "memory", "allocator", **EXPANDABLE),
        case("allocator-async", "memory", "allocator", **ASYNCHRONOUS),
        case("out-of-memory", "memory", "out-of-memory", device_mib=640),
        case("out-of-memory-expandable", "memory", "out-of-memory", device_mib=640, **EXPANDABLE),
        case("pinned", "memory", "pinned"),
        case("streams", "memory", "streams"),
        case("description", "memory", "description"),
        case("elementwise", "operations", "elementwise"),
        case("autocast", "operations", "autocast"),
        case("indexing", "operations", "indexing"),
        case("attention", "operations", "attention"),
        case("recurrent", "operations", "recurrent"),
        case("linalg", "operations", "linalg"),
        case("fft", "operations", "fft"),
        case("sparse", "operations", "sparse"),
        case("random", "operations", "random"),
        case("shared-tensor", "processes", "shared-tensor"),
        case("peer-copies", "processes", "peer-copies", devices=2),
        case("two-devices", "processes", "two-devices", devices=2),
        case("nccl-one", "processes", "nccl-one"),
        case("nccl-two", "processes", "nccl-two", devices=2),
    ),
    device={"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": "99.0"},
)
