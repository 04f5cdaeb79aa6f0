"""Wheels into a folder of Python packages, with launchers beside it. A wheel is a zip file of what gets installed
(Python packaging's binary distribution format); no pip is needed, and none of its code runs.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .manifest import BundleError, BundleFile

PIECE = 1 << 20

COMMAND = """#!{python} -I
import os
import sys

sys.path.insert(0, {library!r})
for name, value in {variables!r}.items():
    os.environ.setdefault(name, value)
from clientagent.command import main

sys.exit(main())
"""

PYTHON = """#!/bin/sh
# Python with gpuferry's packages, and what the configuration adds to them.
PYTHONPATH="{paths}" exec {python} "$@"
"""


def take_in(file: BundleFile, source: Path, target: Path) -> None:
    """Copy a file of a bundle to where nobody else can change it, its digest checked on the way. Raises BundleError."""
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            while True:
                piece = reading.read(PIECE)
                if not piece:
                    break
                digest.update(piece)
                size += len(piece)
                writing.write(piece)
    except FileNotFoundError:
        raise BundleError(f"{file.name} of the bundle did not arrive") from None
    if size != file.size or digest.hexdigest() != file.sha256:
        raise BundleError(f"{file.name} is not the file that the bundle's signed manifest names")


def unpack_wheel(wheel: Path, library: Path) -> None:
    """Unpack a wheel. Raises BundleError for one that would write outside the folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = _placed(entry.filename)
                if name is not None and not entry.is_dir():
                    _extract(archive, entry, library / name)
    except zipfile.BadZipFile as wrong:
        raise BundleError(f"{wheel.name} is no wheel: {wrong}") from None


def _placed(name: str) -> str | None:
    """Where an entry goes, relative to the packages; None for scripts and headers."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts:
        raise BundleError(f"a wheel names {name[:80]!r}, which is outside its folder")
    if parts[0].endswith(".data"):
        return "/".join(parts[2:]) if len(parts) > 2 and parts[1] in ("purelib", "platlib") else None
    return name


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        pointed = archive.read(entry).decode()
        if "/" in pointed or pointed in ("", ".", ".."):
            raise BundleError(f"{entry.filename} links to {pointed[:80]!r}, outside its folder")
        target.symlink_to(pointed)
        return
    with archive.open(entry) as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, PIECE)
    target.chmod(0o755 if mode & 0o111 else 0o644)


def write_launchers(
    version: Path, final: Path, python: str, extra: Iterable[str], variables: Mapping[str, str]
) -> None:
    """`bin/gpuferry` and `bin/python` of a version that is built in `version` and will lie in `final`."""
    library = str(final / "lib")
    (version / "bin").mkdir(exist_ok=True)
    texts: dict[str, str] = {
        "gpuferry": COMMAND.format(python=python, library=library, variables=dict(variables)),
        "python": PYTHON.format(python=python, paths=":".join([library, *extra])),
    }
    for name, text in texts.items():
        path = version / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


def build_version(
    target: Path,
    final: Path,
    files: Iterable[BundleFile],
    source: Path,
    python: str,
    extra: Iterable[str],
    variables: Mapping[str, str],
    on_file: Callable[[int, int], None],
) -> None:
    """Fill the folder `target`. Raises BundleError, OSError (no space)."""
    library, incoming = target / "lib", target / "incoming"
    library.mkdir(parents=True)
    incoming.mkdir(mode=0o700)
    chosen = list(files)
    for number, file in enumerate(chosen):
        on_file(number, len(chosen))
        name = file.name.rpartition("/")[2]
        take_in(file, source / file.sha256, incoming / name)
        if name.endswith(".whl"):
            unpack_wheel(incoming / name, library)
        else:
            os.replace(str(incoming / name), str(target / name))
            (target / name).chmod(0o644)
    shutil.rmtree(str(incoming))
    write_launchers(target, final, python, extra, variables)
    compileall.compile_dir(str(library), quiet=2, stripdir=str(library), prependdir=str(final / "lib"))
