"""Run tests of the software GPU on its build with AddressSanitizer and UBSan (`make native-sanitize`).

    python -m tests.long.sanitized [--every N] [pytest argument ...]

What a sanitizer finds ends the process, and the test in it fails. Without arguments: the PTX instruction tests, the
engine's and the driver's (tens of minutes). `--every N` takes each Nth of them, the same at every run: `make test` does
that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "gpuserver" / "softgpu"
DEFAULT = [str(TESTS / part) for part in ("ptx_instructions", "engine", "driver")]
EVERY = "GPUFERRY_EVERY"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps each Nth test."""
    every = int(os.environ.get(EVERY, "1"))
    dropped = [item for index, item in enumerate(items) if index % every]
    items[:] = items[::every]
    config.hook.pytest_deselected(items=dropped)


def sanitized_environment() -> dict[str, str]:
    """This process's environment for Python programs that load the sanitized libraries."""
    compiler = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return os.environ | {
        "GPUFERRY_NATIVE": str(ROOT / "build" / "stage-sanitize"),
        "GPUFERRY_ENGINE": str(ROOT / "build" / "sanitize"),
        # libstdc++ is there before the interpreter asks for it, so that exceptions find the sanitizer's interceptor.
        "LD_PRELOAD": f"{compiler.stdout.strip()} {library('libstdc++.so.6')}",
        # The interpreter leaks by design.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }


def library(name: str) -> str:
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.sanitized", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    known, arguments = parser.parse_known_args()
    engine = list((ROOT / "build" / "sanitize").rglob("libsoftgpu_engine_test.so"))
    if not engine:
        parser.error("there is no sanitizer build: run `make native-sanitize` first")
    environment = sanitized_environment() | {EVERY: str(known.every)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.long.sanitized", *arguments]
    if not any(not argument.startswith("-") and Path(argument.partition("::")[0]).exists() for argument in arguments):
        command += DEFAULT
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
