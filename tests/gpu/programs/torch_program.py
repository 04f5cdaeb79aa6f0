"""What PyTorch's test programs share: sizes, a summary of tensors, the line of JSON at the end."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable

import torch

SMALL = "small" in sys.argv
ON_SOFTWARE = torch.cuda.is_available() and "software" in torch.cuda.get_device_name().lower()


def size(small: int, large: int) -> int:
    """The first on the software GPU, the second on a real one."""
    return small if SMALL else large


def summary(tensor: torch.Tensor) -> list[object]:
    """Shape, type, a digest of every bit in order, and the first few elements: equal only when the tensors are."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    plain = torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat
    words = plain.view(torch.uint8).to(torch.int64)
    digest = int((words * (torch.arange(len(words)) % 65521 + 1)).sum())
    few = [float(value) for value in plain[:4].float()]
    return [list(tensor.shape), str(tensor.dtype), digest, ["nan" if math.isnan(value) else value for value in few]]


def repeatable() -> None:
    """The same numbers in every run, as far as PyTorch can."""
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a kernel for each new tensor, which nobody else has
    torch.backends.cudnn.benchmark = False
    # cuDNN's kernels are machine code, which the software GPU has no use for.
    torch.backends.cudnn.enabled = not ON_SOFTWARE


def run(cases: dict[str, Callable[[], object]]) -> None:
    """Runs the case that the command line names first, and prints its output and seconds."""
    repeatable()
    torch.cuda.init()
    start = time.perf_counter()
    output = cases[sys.argv[1]]()
    torch.cuda.synchronize()
    print(json.dumps({"output": output, "seconds": time.perf_counter() - start}), flush=True)
