"""Run numba-cuda's own test suite (it is in its wheel) on the software GPU and count what passes, by file.

    python -m tests.long.numba_suite [--output FOLDER] [--processes N] [part ...]

Takes tens of minutes; not part of `make test`. `part` is a sub-package of `numba.cuda.tests`, e.g. `cudapy`; all that
need a device by default. Writes `numba-suite.json` and prints a Markdown table; docs/softgpu.md holds the last one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("cudadrv", "cudapy", "doc_examples", "nocuda", "core", "nrt")
OUTCOMES = ("passed", "failed", "skipped")


def run_part(part: str, output: Path, processes: int) -> Path:
    """Run one sub-package and give the path of its JUnit report. Raises FileNotFoundError when none was written."""
    report = output / f"numba-{part}.xml"
    pytest_arguments = [
        *(
            "-c",
            "/dev/null",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.long.numba_plugin",
            "--import-mode=importlib",
            "-o",
            "consider_namespace_packages=true",
        ),
        *("-q", "--timeout", "300", "-n", str(processes), f"--junitxml={report}"),
        *("--pyargs", f"numba.cuda.tests.{part}"),
    ]
    program = [sys.executable, "-m", "pytest", *pytest_arguments]
    command = [sys.executable, "-m", "clientagent.command", "softgpu", "exec", "--devices", "2", "--", *program]
    with (output / f"numba-{part}.log").open("w") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        raise FileNotFoundError(f"pytest wrote no report for {part}: see {output / f'numba-{part}.log'}")
    return report


def outcome(case: ET.Element) -> tuple[str, str]:
    """(outcome, first line of the reason)."""
    for tag, name in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(tag)) is not None:
            return name, (found.get("message") or found.text or "").strip().splitlines()[0][:160]
    return "passed", ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.numba_suite", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "numba-suite")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("parts", nargs="*", default=PARTS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    failures: dict[str, str] = {}
    for part in arguments.parts:
        for case in ET.parse(run_part(part, arguments.output, arguments.processes)).iter("testcase"):  # noqa: S314
            name = case.get("classname", "").split(".")
            file = f"{part}/{next((n for n in name if n.startswith('test_')), name[-1])}"
            result, reason = outcome(case)
            counts[file][result] += 1
            if result == "failed":
                reasons[file][reason] += 1
                failures[f"{file}::{case.get('name')}"] = reason
    total = sum(counts.values(), Counter())
    document = {"total": total, "files": counts, "failures": failures}
    (arguments.output / "numba-suite.json").write_text(json.dumps(document, indent=1))
    print("| file | passed | failed | skipped | most frequent reason |\n|---|---:|---:|---:|---|")
    for file in sorted(reasons):
        row = " | ".join(str(counts[file][o]) for o in OUTCOMES)
        print(f"| {file} | {row} | {reasons[file].most_common(1)[0][0].replace('|', '/')} |")
    print("| **all files** | " + " | ".join(str(total[o]) for o in OUTCOMES) + " | |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
