"""The reader of code images under address and undefined-behaviour sanitizers, on damaged images."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from images import SOURCE, nvcc
from software_gpu import ROOT

RUNS = int(os.environ.get("GPUFERRY_FUZZ_RUNS", "100000"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    both = ("-gencode", "arch=compute_75,code=compute_75", "-gencode", "arch=compute_80,code=sm_80")
    found = [
        nvcc(SOURCE, folder / mode, "-fatbin", f"--compress-mode={mode}", *both) for mode in ("none", "speed", "size")
    ]
    found.append(nvcc(SOURCE, folder / "text", "-ptx", "-arch=compute_75"))
    found.append(nvcc(SOURCE, folder / "object", "-c", "-rdc=true", "-arch=compute_75"))
    member = found[-1].read_bytes()
    header = b"object.o/       0           0     0     644     %-10d`\n" % len(member)
    archive = folder / "archive"
    archive.write_bytes(b"!<arch>\n" + header + member)
    return [*found, archive]


def test_no_damaged_image_reads_out_of_bounds(seeds: list[Path]) -> None:
    entry = ROOT / "build" / "stage-sanitize" / "gpuserver" / "softgpu" / "fuzz" / "fuzz_image"
    assert entry.exists(), "run `make native-sanitize` first"
    done = subprocess.run(
        [str(entry), str(RUNS), *map(str, seeds)], capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{RUNS} inputs from {len(seeds)} seeds\n"
