"""Run numba-cuda's own test suite (it is in its wheel) on the software GPU and count what passes, by file.

    python -m tests.long.numba_suite [--output FOLDER] [--processes N] [part ...]

Takes an hour and more; not part of `make test`. `part` is a sub-package of `numba.cuda.tests`, or a file of one
(`cudapy/test_atomics`); all by default. Each file runs in a process of its own, and the rest of it in another after a
test whose kernel failed, on two devices of its own, and leaves its outcomes in FOLDER, test by test; a file that was
run to its end is not run again. Prints a Markdown table of all that is in FOLDER; docs/softgpu.md holds the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("cudadrv", "cudapy", "doc_examples", "nocuda", "core", "nrt")
OUTCOMES = ("passed", "failed", "skipped")
TEST_LIMIT = 300  # seconds a test
FILE_LIMIT = 3600  # seconds a process
INTERRUPTED = int(pytest.ExitCode.INTERRUPTED)
PYTEST = (
    *("-c", os.devnull, "-p", "no:cacheprovider", "-p", "tests.long.numba_plugin", "--import-mode=importlib"),
    *("-o", "consider_namespace_packages=true", "-q", "--timeout", str(TEST_LIMIT)),
)


def test_folder() -> Path:
    """Where numba.cuda's tests are installed."""
    import numba_cuda

    return Path(next(iter(numba_cuda.__path__))) / "numba" / "cuda" / "tests"


def files_of(part: str) -> list[str]:
    """`cudapy` → every test file in it, as `cudapy/test_atomics`; a single file is itself."""
    folder = test_folder() / part
    if not folder.is_dir():
        return [part]
    return [f"{part}/{file.stem}" for file in sorted(folder.glob("test_*.py"))]


def run_file(name: str, output: Path) -> None:
    """Run one file; its outcomes, one line of JSON each, go to `output`. Its last line says how pytest ended."""
    results = output / f"{name.replace('/', '-')}.jsonl"
    if results.exists() and '"end"' in results.read_text():
        return
    results.unlink(missing_ok=True)
    program = [sys.executable, "-m", "pytest", *PYTEST, "--pyargs", f"numba.cuda.tests.{name.replace('/', '.')}"]
    command = [sys.executable, "-m", "clientagent.command", "softgpu", "exec", "--devices", "2", "--", *program]
    uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(2))
    environment = os.environ | {"GPUFERRY_NUMBA_RESULTS": str(results), "GPUFERRY_SOFTGPU_UUID": uuids}
    with results.with_suffix(".log").open("w") as log:
        status: int | str = INTERRUPTED
        before = -1
        # One process after another while each brings outcomes; the plugin stops it when a context was spoilt.
        while status == INTERRUPTED and (size := results.stat().st_size if results.exists() else 0) > before:
            before = size
            status = run_process(command, environment, log)
    with results.open("a") as stream:
        stream.write(json.dumps({"end": status}) + "\n")
    print(f"{name}: {dict(read_file(results)[0])}", file=sys.stderr, flush=True)


def run_process(command: list[str], environment: dict[str, str], log: IO[str]) -> int | str:
    """pytest's exit status, or why there is none."""
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False, timeout=FILE_LIMIT
        ).returncode
    except subprocess.TimeoutExpired:
        return "time limit"


def read_file(results: Path) -> tuple[Counter[str], dict[str, str]]:
    """(number of tests by outcome, reasons by name of those that failed)."""
    outcomes: dict[str, str] = {}
    failures = {}
    for line in results.read_text().splitlines():
        entry = json.loads(line)
        if "test" not in entry:
            if entry["end"] not in (0, 1, 5):  # pytest: passed, failed, nothing collected
                failures["the run itself"] = f"ended with {entry['end']}"
        elif outcomes.get(entry["test"]) != "failed":  # its teardown may fail too
            outcomes[entry["test"]] = entry["outcome"]
            if entry["outcome"] == "failed":
                failures[entry["test"]] = entry["reason"]
    counts = Counter(outcomes.values())
    return counts, failures


def table(output: Path) -> str:
    """Counts by group, then every file with a failure."""
    groups: dict[str, Counter[str]] = {}
    rows = []
    for results in sorted(output.glob("*.jsonl")):
        group, _, name = results.stem.partition("-")
        counts, failures = read_file(results)
        groups.setdefault(group, Counter()).update(counts)
        groups[group]["files"] += 1
        for test, reason in failures.items():
            rows.append(f"| {group}/{name} | {test} | {reason.replace('|', '/')} |")
    lines = ["| group | files | passed | failed | skipped |", "|---|---:|---:|---:|---:|"]
    groups["**all**"] = sum(groups.values(), Counter())
    for group, counts in groups.items():
        lines.append(f"| {group} | {counts['files']} | " + " | ".join(str(counts[o]) for o in OUTCOMES) + " |")
    return "\n".join([*lines, "", "| file | test | reason |", "|---|---|---|", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.numba_suite", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "numba-suite")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("parts", nargs="*", default=PARTS)
    arguments = parser.parse_args()
    if find_spec("numba_cuda") is None:
        parser.error("numba-cuda is not installed")
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    files = [file for part in arguments.parts for file in files_of(part)]
    with ThreadPoolExecutor(arguments.processes) as pool:
        list(pool.map(lambda file: run_file(file, output), files))
    print(table(output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
