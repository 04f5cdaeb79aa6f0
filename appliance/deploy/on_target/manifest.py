"""A bundle's manifest: what it holds, for which role and Python, with the SHA-256 of every file; and the signature.

A bundle is a zip file: `manifest.json`, `manifest.sig` (Ed25519 over the manifest's bytes) and the files it names. As
the signature covers the digests, any selection of its files is as trustworthy as the whole: a machine gets only those
that it needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .ed25519 import verify

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ROLES = ("appliance", "client", "server")
DEPLOYED = ("client", "server")
"""What an appliance deploys; its own role is for what sets appliances up."""
SAFE_NAME = re.compile(r"^[a-z]+/[A-Za-z0-9_.+!-]+$")
SAFE_VERSION = re.compile(r"^[0-9][A-Za-z0-9.+!_-]{0,63}$")
LARGEST_FILE = 4 << 30


class BundleError(Exception):
    """The bundle is not what it says, or not for this machine; the text says which."""


class SignatureError(BundleError):
    """The manifest is not signed by the key that this machine trusts."""


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle. `python`: the versions it is for (`3.11`), empty for all; `part`: an optional part's name."""

    name: str
    sha256: str
    size: int
    roles: tuple[str, ...]
    python: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True)
class RoleNeeds:
    """What a role needs of a machine: Pythons it has wheels for, the lowest glibc, MiB of disk when it is unpacked."""

    python: tuple[str, ...]
    glibc: str
    architecture: str
    disk_mib: int
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """`build` names these very contents: bundles of one version whose bytes differ are told apart."""

    version: str
    build: str
    roles: dict[str, RoleNeeds]
    files: tuple[BundleFile, ...]
    raw: bytes

    @property
    def name(self) -> str:
        """The folder's name of this version on a machine."""
        return f"{self.version}-{self.build[:12]}"

    def select(self, role: str, python: str, parts: Iterable[str] = ()) -> tuple[BundleFile, ...]:
        """The files that a machine of this role and Python needs. Raises BundleError when there are none for it."""
        needs = self.roles.get(role)
        if needs is None:
            raise BundleError(f"the bundle of {self.version} has nothing for a {role}")
        if python not in needs.python:
            raise BundleError(f"the bundle has no packages for Python {python}, only for {', '.join(needs.python)}")
        wanted = set(parts)
        missing = wanted - {each.part for each in self.files}
        if missing:
            raise BundleError(f"the bundle has no part {', '.join(sorted(missing))}")
        return tuple(
            each
            for each in self.files
            if role in each.roles
            and (not each.python or python in each.python)
            and (not each.part or each.part in wanted)
        )


def write_manifest(version: str, roles: dict[str, RoleNeeds], files: Iterable[BundleFile]) -> bytes:
    """The bytes of a manifest: the same for the same contents."""
    content = {
        "format": FORMAT,
        "version": version,
        "roles": {name: vars(needs) for name, needs in sorted(roles.items())},
        "files": [vars(each) for each in sorted(files, key=lambda file: file.name)],
    }
    return json.dumps(content, indent=1, sort_keys=True).encode()


def read_manifest(raw: bytes, signature: bytes, key: bytes) -> Manifest:
    """The manifest, once its signature is found right. Raises SignatureError, BundleError."""
    if not verify(key, raw, signature):
        raise SignatureError(
            f"the bundle is not signed by the key {fingerprint(key)} that this machine trusts: "
            "it was changed on its way, or it is of another appliance"
        )
    return parse_manifest(raw)


def parse_manifest(raw: bytes) -> Manifest:
    """Raises BundleError. The signature is the caller's business."""
    try:
        content = json.loads(raw)
        if content["format"] != FORMAT:
            raise BundleError(f"the bundle's format is {content['format']}, this gpuferry reads format {FORMAT}")
        roles = {
            str(name): RoleNeeds(
                tuple(map(str, needs["python"])),
                str(needs["glibc"]),
                str(needs["architecture"]),
                int(needs["disk_mib"]),
                tuple(map(str, needs.get("libraries", ()))),
            )
            for name, needs in content["roles"].items()
        }
        files = tuple(_file(each) for each in content["files"])
        version = str(content["version"])
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise BundleError(f"the bundle's manifest is unreadable: {wrong!r}") from None
    if not SAFE_VERSION.match(version) or set(roles) - set(ROLES):
        raise BundleError(f"the bundle's manifest names a version {version[:64]!r} and roles {sorted(roles)}")
    if len({each.name for each in files}) != len(files):
        raise BundleError("the bundle's manifest names a file twice")
    return Manifest(version, hashlib.sha256(raw).hexdigest(), roles, files, raw)


def _file(fields: Any) -> BundleFile:
    file = BundleFile(
        str(fields["name"]),
        str(fields["sha256"]),
        int(fields["size"]),
        tuple(map(str, fields["roles"])),
        tuple(map(str, fields.get("python", ()))),
        str(fields.get("part", "")),
    )
    if not SAFE_NAME.match(file.name) or not re.match(r"^[0-9a-f]{64}$", file.sha256):
        raise ValueError(f"{file.name[:80]!r} is no file of a bundle")
    if not 0 <= file.size <= LARGEST_FILE:
        raise ValueError(f"{file.name} has {file.size} bytes")
    return file


def fingerprint(key: bytes) -> str:
    """A short name of a public key, for people."""
    return hashlib.sha256(key).hexdigest()[:16]
