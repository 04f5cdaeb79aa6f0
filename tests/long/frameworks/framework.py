"""What a framework is here: how it is installed in a folder, how a program runs in it, and its cases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / "tests" / "gpu" / "programs"


@dataclass(frozen=True)
class Case:
    """One run of a program of tests/gpu/programs, natively and forwarded.

    `variables` are set for the program; `devices`, `device_mib` and the settings `device` make the software GPU. The
    slice of the forwarded run is the whole device. `agrees` says why two outputs differ, empty where they agree;
    without it they have to be equal, byte for byte. `round_trips`, where given, is the most blocking round trips that
    the forwarded run may take.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)
    devices: int = 1
    device_mib: int = 4096
    agrees: Callable[[object, object], str] | None = None
    round_trips: int | None = None
    seconds: int = 1200


@dataclass(frozen=True)
class Framework:
    """A framework and its cases.

    `prepare(folder)` installs it; `command(folder, program and arguments)` is the command line that runs a program of
    the repository with it. `variables` are set for every program; `device` are the settings of the software GPU
    (GPUFERRY_SOFTGPU_...) that it needs, both ways.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path, Sequence[str]], list[str]]
    cases: tuple[Case, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)


def make_virtual_environment(folder: Path, *packages: str) -> None:
    """A virtual environment of this interpreter's version with packages of the registry that pip is set to."""
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *packages], check=True)


def in_virtual_environment(folder: Path, program: Sequence[str]) -> list[str]:
    return [str(folder / "bin" / "python"), *program]
