"""`gpuferry appliance bundle build`: gathers what goes into a bundle, writes and signs it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from appliance.deploy import wheels
from appliance.deploy.bundle import SUFFIX, Bundle, public_half, signing_key, write_bundle
from appliance.deploy.on_target.manifest import DEPLOYED, BundleFile, RoleNeeds
from gpuserver.protocol.version import own_version

MIB = 1 << 20
ROOM_MIB = 40
"""Room for what a service writes and for compiled files, beside what is unpacked twice for a moment."""


def build_bundle(
    folder: Path,
    out: Path | None = None,
    *,
    roles: Iterable[str] = DEPLOYED,
    pythons: Mapping[str, Iterable[str]] = wheels.PYTHONS,
    installed: bool = False,
    cupy: bool = False,
    version: str | None = None,
    on_step: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Build the bundle of this gpuferry and sign it with the key of the site in `folder`.

    `installed`: other packages are packed from those of this Python instead of being fetched. `version` is another
    name for the same contents (tests of upgrades). Raises BundleError.
    """
    version = version or own_version()
    out = out or folder / "bundles" / f"gpuferry-{version}{SUFFIX}"
    cache = folder / "wheels"
    files: dict[str, tuple[BundleFile, Path]] = {}
    needs: dict[str, RoleNeeds] = {}

    def add(path: Path, role: str, python: str = "", part: str = "") -> None:
        name = f"{part or 'wheels'}/{path.name}" if python or part else f"{role}/{path.name}"
        known = files.get(name)
        if known is None:
            content = path.read_bytes()
            file = BundleFile(
                name, hashlib.sha256(content).hexdigest(), len(content), (role,), (python,) * bool(python), part
            )
        else:
            file = known[0]
            file = replace(
                file,
                roles=tuple(sorted({*file.roles, role})),
                python=tuple(sorted({*file.python, python} - {""})) if file.python else (),
            )
        files[name] = (file, path)

    roles = tuple(roles)
    with tempfile.TemporaryDirectory(prefix="gpuferry-bundle-") as temporary:
        for role in roles:
            on_step(f"packing gpuferry for a {role}")
            own = wheels.own_wheel(role, version, Path(temporary))
            add(own, role)
            supported = [each for each in pythons[role] if not installed or each == wheels.this_python()]
            largest = 0
            for python in supported:
                on_step(f"packages of a {role} for Python {python}")
                gathered = list(wheels.gather(wheels.REQUIREMENTS[role], python, cache, installed=installed))
                for path in gathered:
                    add(path, role, python)
                largest = max(largest, sum(map(unpacked, gathered)))
                if cupy and role == "server":
                    for path in wheels.gather(wheels.CUPY, python, cache, installed=installed):
                        add(path, role, python, wheels.CUPY_PART)
            glibc, libraries = wheels.native_needs(wheels.own_files(role).values())
            disk = (unpacked(own) + largest) * 5 // 2 // MIB + ROOM_MIB
            needs[role] = RoleNeeds(tuple(supported), glibc, wheels.ARCHITECTURE, disk, libraries)
        on_step("signing")
        key = signing_key(folder)
        write_bundle(out, version, needs, files.values(), key)
    return Bundle(out, public_half(key))


def unpacked(wheel: Path) -> int:
    """Bytes of a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return sum(each.file_size for each in archive.infolist())


def forget_cache(folder: Path) -> None:
    """Remove the wheels that were kept."""
    shutil.rmtree(folder / "wheels", ignore_errors=True)
