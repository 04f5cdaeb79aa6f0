"""What a machine with a GPU needs to run tests/gpu and the benchmarks, when it reaches no package registry.

    python tests/gpu/carry.py FOLDER [--python 3.12]        # here, after `make native`
    FOLDER/run [COMMAND …]                                  # there, in a copy of the source tree

FOLDER gets the native parts and the wheels that pytest, CuPy and PyTorch do not bring along anyway; it may be copied
anywhere. `run` unpacks the wheels for one run and executes COMMAND, by default all of tests/gpu. The machine brings
NVIDIA's driver, Python with pytest, numpy and the frameworks to be tested, and nvcc on the PATH for the corpus.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("pyzmq", "structlog", "typer", "rich", "click", "shellingham", "nvidia-ml-py", "pytest-timeout", "mpmath")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

RUN = """#!/bin/sh
# Written by tests/gpu/carry.py: runs a command of gpuferry's source tree on a machine without registries.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" "$here"/wheels/*.whl
# What the machine has itself comes first; its versions fit its frameworks.
own=$(python3 -c 'import site; print(site.getsitepackages()[0])')
export GPUFERRY_NATIVE="$here/stage" PYTHONPATH="$PWD:$own:$site"
[ $# -gt 0 ] || set -- python3 -m pytest -q -rA -p no:cacheprovider tests/gpu
"$@"
"""


def fetch_wheels(folder: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "-d", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, "-c", ROOT / "constraints.txt", *NEEDED], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="the other machine's Python (%(default)s)")
    known = parser.parse_args()
    stage = ROOT / "build" / "stage"
    if not stage.exists():
        parser.error("there are no native parts: `make native` builds them")
    shutil.rmtree(known.folder, ignore_errors=True)
    known.folder.mkdir(parents=True)
    shutil.copytree(stage, known.folder / "stage")
    fetch_wheels(known.folder / "wheels", known.python)
    script = known.folder / "run"
    script.write_text(RUN)
    script.chmod(0o755)
    size = sum(file.stat().st_size for file in known.folder.rglob("*") if file.is_file())
    print(f"{known.folder}: {size / 2**20:.0f} MiB; there: {known.folder.name}/run in the source tree")


if __name__ == "__main__":
    main()
