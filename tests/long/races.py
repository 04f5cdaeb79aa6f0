"""Run what uses several threads on a build of the software GPU with ThreadSanitizer, and print what it finds.

    python -m tests.long.races [--build] [--forwarded] [pytest argument ...]

Without arguments: the corpus of CUDA programs, natively, and the driver's tests (five minutes and more). `--forwarded`
runs programs through forwarding, so that shim and worker are looked at as well. `--build` makes the build first
(build/thread, ten minutes); it stands beside that of `make native-sanitize`. A race of kernels is reported like one in
the driver's own code: PTX's volatile, relaxed and atomic accesses are atomic ones of the engine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.long.sanitized import ROOT, library

BUILD = ROOT / "build" / "thread"
STAGE = ROOT / "build" / "stage-thread"
DEFAULT = ("tests/programs/test_cuda_programs.py", "tests/gpuserver/softgpu/driver")
FORWARDED = ("tests/programs/test_cuda_programs.py", "tests/gpuserver/forwarding/test_forwarded_driver.py")
# glibc frees a thread's storage in another that takes over its stack; the sanitizer does not see them hand it over.
SUPPRESSIONS = "race:_dl_deallocate_tls\n"
OPTIONS = {
    "exitcode": "0",  # all of a test's reports are wanted, and the test's own verdict beside them
    "history_size": "4",
    "atexit_sleep_ms": "0",  # else a session outlives its program, and the next one finds its memory taken
    # Faults are the programs' own matter: managed memory is made of them.
    "handle_segv": "0",
    "handle_sigbus": "0",
}


def build() -> None:
    programs = Path(sys.executable).parent
    configure = [programs / "cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={programs / 'ninja'}", f"-DPython3_EXECUTABLE={sys.executable}"]
    subprocess.run([*configure, "-DGPUFERRY_SANITIZE=thread"], check=True)
    subprocess.run([programs / "cmake", "--build", BUILD], check=True)
    with open(os.devnull, "w") as nothing:
        subprocess.run([programs / "cmake", "--install", BUILD, "--prefix", STAGE], check=True, stdout=nothing)


def run(arguments: list[str], folder: Path, way: str) -> int:
    """pytest's exit status; the reports lie in `folder` as `report.PID`."""
    suppressions = folder / "suppressions"
    suppressions.write_text(SUPPRESSIONS)
    options = OPTIONS | {"suppressions": str(suppressions), "log_path": str(folder / "report")}
    environment = os.environ | {
        "GPUFERRY_NATIVE": str(STAGE),
        "GPUFERRY_ENGINE": str(BUILD),
        "GPUFERRY_WAYS": way,
        "LD_PRELOAD": library("libtsan.so"),
        "TSAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False
    ).returncode


def reports(folder: Path) -> list[str]:
    """The text of each report."""
    found = []
    for file in sorted(folder.glob("report.*")):
        text = file.read_text(errors="replace")
        found += re.findall(r"WARNING: ThreadSanitizer.*?SUMMARY: [^\n]*", text, re.DOTALL)
        found += [line for line in text.splitlines() if "ThreadSanitizer" in line and "==" in line]  # its own failures
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.races", description=__doc__)
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--forwarded", action="store_true")
    known, arguments = parser.parse_known_args()
    if known.build:
        build()
    if not STAGE.exists():
        parser.error("there is no build with ThreadSanitizer: --build makes it")
    if not any(not argument.startswith("-") and Path(argument.partition("::")[0]).exists() for argument in arguments):
        arguments += FORWARDED if known.forwarded else DEFAULT
    with tempfile.TemporaryDirectory(prefix="gpuferry-races-") as temporary:
        folder = Path(temporary)
        status = run(["-q", *arguments], folder, "forwarded" if known.forwarded else "native")
        found = reports(folder)
        for report in {report.splitlines()[-1]: report for report in found}.values():  # one of each kind
            print(report, end="\n\n")
    print(f"{len(found)} reports")
    for summary, count in Counter(report.splitlines()[-1] for report in found).most_common():
        print(f"{count:6} {summary}")
    return status or bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
