"""llama.cpp of Debian's unstable release, with ggml's CUDA backend of contrib: its kernels come as PTX 6.1 to 9.0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.long.frameworks.debian import in_tree, make_tree
from tests.long.frameworks.framework import Case, Framework

PACKAGES = ("llama.cpp", "llama.cpp-tools-extra", "llama.cpp-tests", "libggml0-backend-cuda", "python3-gguf")


def prepare(folder: Path) -> None:
    make_tree(folder, "sid", PACKAGES, {"libcuda1": "999"})


def command(folder: Path, program: Sequence[str]) -> list[str]:
    return in_tree(folder, ["/usr/bin/python3", *program])


def case(way: str, kind: str, flash: str, capability: str) -> Case:
    name = f"{way}-{kind}{'-flash' if flash == 'on' else ''}-{capability}"
    # ggml picks its kernels by the compute capability; 9.0 is the newest that it brings PTX for.
    variables = {"GPUFERRY_SOFTGPU_COMPUTE_CAPABILITY": capability}
    return Case(name, "llama_cpp", (way, kind, flash, "small"), device=variables)


FRAMEWORK = Framework(
    prepare,
    command,
    cases=(
        *(case("text", kind, "on", "6.1") for kind in ("Q8_0", "Q4_0", "Q4_K_M")),
        *(case("text", kind, flash, "99.0") for kind in ("F32", "F16", "Q8_0", "Q4_0") for flash in ("off", "on")),
        case("perplexity", "Q8_0", "on", "6.1"),
        case("perplexity", "Q4_0", "off", "99.0"),
        case("bench", "Q8_0", "on", "6.1"),
    ),
)
