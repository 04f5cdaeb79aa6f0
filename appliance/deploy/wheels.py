"""What goes into a bundle: gpuferry's own packages for a role, with their native parts, and the wheels they stand on.

Own packages are taken from where this gpuferry runs (a source tree with `build/stage`, or an installation), so a bundle
is always of the appliance's own version. Other packages are fetched by pip for each Python that targets may have, and
kept in a folder; those of this very Python can be packed from what is installed here.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from appliance.deploy.bundle import EPOCH
from appliance.deploy.elf import is_elf, lowest_glibc, needed_libraries
from appliance.deploy.on_target.manifest import BundleError

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHONS = {
    "appliance": ("3.11", "3.12", "3.13"),
    "client": ("3.9", "3.10", "3.11", "3.12", "3.13"),
    "server": ("3.11", "3.12", "3.13"),
}
REQUIREMENTS = {
    "appliance": (
        *("pyzmq", "pyvmomi", "vmware-vcenter", "typer", "rich", "structlog", "httpx", "pyyaml", "tenacity"),
        *("fastapi", "uvicorn", "sqlalchemy", "alembic", "dbos", "cryptography", "paramiko", "packaging"),
        *("prometheus-client", "psycopg[binary]", "nvidia-ml-py", "pip"),
    ),
    "client": ("pyzmq",),
    "server": ("pyzmq", "nvidia-ml-py", "structlog", "typer"),
}
"""As the extras of pyproject.toml say; a test compares them."""
CUPY_PART = "cupy"
CUPY = ("cupy-cuda13x[ctk]",)
"""The optional part `cupy` of a server: what the acceptance test computes with, where the VM's image has none."""
# An appliance has the others' parts, native ones included: it makes their bundles.
OWN = {
    "appliance": ("appliance", "vcenter", "clientagent", "gpuserver"),
    "client": ("clientagent", "gpuserver/__init__.py", "gpuserver/protocol"),
    "server": ("clientagent", "gpuserver"),
}
NATIVE = {"appliance": ("clientagent", "gpuserver"), "client": ("clientagent",), "server": ("gpuserver",)}
SOURCES = {".cpp", ".h", ".pyc", ".txt", ".md"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
GLIBC_FLOOR = 28
ARCHITECTURE = "x86_64"


def this_python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def native_root() -> Path:
    """The folder whose `gpuserver/…` and `clientagent/…` hold the native parts. Raises BundleError."""
    prefixes = [ROOT, ROOT / "build" / "stage"]
    if override := os.environ.get("GPUFERRY_NATIVE"):
        prefixes.insert(0, Path(override))
    for prefix in prefixes:
        if (prefix / "clientagent/shim/lib/libcuda.so.1").exists():
            return prefix
    raise BundleError(
        "the native parts are not built: run `make native` in the source tree, or install the gpuferry wheel"
    )


def own_files(role: str) -> dict[str, Path]:
    """gpuferry's files for a role: the name in the wheel → where it is. Raises BundleError."""
    files: dict[str, Path] = {}
    for top in OWN[role]:
        start = ROOT / top
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            if path.is_file() and path.suffix not in SOURCES and "__pycache__" not in path.parts:
                files[str(path.relative_to(ROOT))] = path
    native = native_root()
    for top in NATIVE[role]:
        for folder in ("lib", "bin"):
            for path in sorted((native / top).rglob(f"{folder}/*")):
                if path.is_file() and path.suffix not in SOURCES:
                    files[str(path.relative_to(native))] = path
    return files


def native_needs(files: Iterable[Path]) -> tuple[str, tuple[str, ...]]:
    """The lowest glibc (`2.28` at least), and the libraries that these native parts need."""
    lowest, libraries = GLIBC_FLOOR, set()
    for path in files:
        if path.is_file() and is_elf(path):
            lowest = max(lowest, lowest_glibc(path))
            libraries |= set(needed_libraries(path))
    return f"2.{lowest}", tuple(sorted(libraries))


def pack(folder: Path, name: str, version: str, tag: str, files: dict[str, Path], info: dict[str, bytes]) -> Path:
    """Write a wheel. The same files give the same bytes; a link to a file beside it stays a link."""
    escaped = re.sub(r"[-_.]+", "_", name)
    path = folder / f"{escaped}-{version}-{tag}.whl"
    dist_info = f"{escaped}-{version}.dist-info"
    record: list[tuple[str, str, int]] = []
    folder.mkdir(parents=True, exist_ok=True)
    making = folder / f".{path.name}.{os.getpid()}"
    with zipfile.ZipFile(making, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(entry_name: str, content: bytes, mode: int) -> None:
            entry = zipfile.ZipInfo(entry_name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            record.append((entry_name, f"sha256={digest}", len(content)))

        for entry_name, source in sorted(files.items()):
            if source.is_symlink() and "/" not in os.readlink(source):
                put(entry_name, os.readlink(source).encode(), stat.S_IFLNK | 0o777)
            else:
                executable = source.stat().st_mode & 0o111
                put(entry_name, source.read_bytes(), stat.S_IFREG | (0o755 if executable else 0o644))
        for entry_name, content in sorted(info.items()):
            put(f"{dist_info}/{entry_name}", content, stat.S_IFREG | 0o644)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*record, (f"{dist_info}/RECORD", "", "")])
        put(f"{dist_info}/RECORD", text.getvalue().encode(), stat.S_IFREG | 0o644)
    making.replace(path)
    return path


def _info(name: str, version: str, tag: str, *, pure: bool) -> dict[str, bytes]:
    lines = ["Wheel-Version: 1.0", "Generator: gpuferry", f"Root-Is-Purelib: {str(pure).lower()}"]
    lines += [f"Tag: {tag}"]
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        "WHEEL": ("\n".join(lines) + "\n").encode(),
    }


def own_wheel(role: str, version: str, folder: Path) -> Path:
    """gpuferry's wheel for a role. Raises BundleError."""
    tag = "py3-none-linux_x86_64"
    return pack(folder / role, "gpuferry", version, tag, own_files(role), _info("gpuferry", version, tag, pure=False))


# The packages that gpuferry stands on


def installed_closure(requirements: Iterable[str]) -> list[metadata.Distribution]:
    """Installed distributions that meet these requirements, with all that they need. Raises BundleError."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            raise BundleError(f"the Python package {wanted.name} is not installed here: pip install {wanted}") from None
        found[name] = distribution
        extras = tuple(wanted.extras) or ("",)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(requirement)
    return [found[name] for name in sorted(found)]


def pack_installed(distribution: metadata.Distribution, folder: Path) -> Path:
    """A wheel made of an installed distribution, of its own files and tag. Raises BundleError."""
    name, version = distribution.metadata["Name"], distribution.version
    wheel = (distribution.read_text("WHEEL") or "").splitlines()
    tags = [line.partition(":")[2].strip() for line in wheel if line.startswith("Tag:")]
    if not tags or distribution.files is None:
        raise BundleError(f"{name} {version} was not installed from a wheel: install it with pip")
    parts = [each.split("-") for each in tags]
    tag = "-".join(".".join(dict.fromkeys(part[at] for part in parts)) for at in range(3))
    files: dict[str, Path] = {}
    info: dict[str, bytes] = {}
    for each in distribution.files:
        path = Path(str(distribution.locate_file(each)))
        if ".." in each.parts or each.suffix == ".pyc" or not path.is_file():
            continue  # Scripts lie outside; compiled files are made again on the target.
        if each.parts[0].endswith(".dist-info"):
            if each.name in ("METADATA", "WHEEL", "entry_points.txt", "top_level.txt"):
                info[each.name] = path.read_bytes()
        else:
            files[str(each)] = path
    return pack(folder, name, version, tag, files, info)


def _pinned(requirements: Iterable[str]) -> list[str]:
    """The requirements, at the versions that are installed here: those are what was tested."""
    pinned = []
    for text in requirements:
        requirement = Requirement(text)
        try:
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            pinned.append(f"{requirement.name}{extras}=={metadata.version(requirement.name)}")
        except metadata.PackageNotFoundError:
            pinned.append(text)
    return pinned


def fetch(requirements: Iterable[str], python: str, folder: Path) -> list[Path]:
    """Wheels for a Python, from pip's configured index or from what an earlier call left in `folder`.

    Raises BundleError with pip's own words.
    """
    wanted = _pinned(requirements)
    target = folder / f"python-{python}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    done = target / ".complete"
    if not done.exists():
        target.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:",
            "--implementation", "cp", "--python-version", python, "--dest", str(target),
            *(part for platform in PLATFORMS for part in ("--platform", platform)), *wanted,
        ]  # fmt: skip
        # The pip of this gpuferry's own packages, where they are not the interpreter's.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if ran.returncode != 0:
            last = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ran.stderr.splitlines()
            raise BundleError(f"pip cannot fetch {', '.join(wanted)} for Python {python}: {last[-1] if last else '?'}")
        done.touch()
    return sorted(target.glob("*.whl"))


def gather(requirements: Iterable[str], python: str, folder: Path, *, installed: bool) -> Iterator[Path]:
    """The wheels that a Python needs: fetched, or packed of what is `installed` here. Raises BundleError."""
    if not installed:
        yield from fetch(requirements, python, folder)
        return
    if python != this_python():
        raise BundleError(f"what is installed here is for Python {this_python()}, not for {python}")
    for each in installed_closure(requirements):
        yield pack_installed(each, folder / f"installed-{python}")
