"""Bundles: one signed file with all that a deployment brings along. Making one, opening one, and the key that signs.

    site/bundle.key         Ed25519, made with the site or with its first bundle; it never leaves the appliance
    site/bundles/*.gpuferry the bundles

`on_target/manifest.py` says what is in one.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.deploy.on_target.manifest import (
    MANIFEST,
    SIGNATURE,
    BundleError,
    BundleFile,
    Manifest,
    RoleNeeds,
    read_manifest,
    write_manifest,
)
from gpuserver.protocol.control.curve import write_private

INSTALLER = "tools/installer.pyz"
ON_TARGET = Path(__file__).parent / "on_target"
SUFFIX = ".gpuferry"
# A zip file's entries carry a time; a fixed one, so that the same contents are the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """The site's key, made when there is none. `folder` is the site's."""
    path = folder / "bundle.key"
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        write_private(
            path,
            made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} is no Ed25519 key: restore it from a backup, or remove it and build the bundle anew")
    return key


def public_half(key: Ed25519PrivateKey) -> bytes:
    """32 bytes."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def make_installer() -> bytes:
    """`installer.pyz`: the package `on_target` as a zip file that Python runs. The same sources give the same bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        start = "from on_target.__main__ import main\nimport sys\n\nraise SystemExit(main(sys.argv[1:]))\n"
        _put(archive, "__main__.py", start.encode())
        for path in sorted(ON_TARGET.glob("*.py")):
            _put(archive, f"on_target/{path.name}", path.read_bytes())
    return made.getvalue()


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = archive.compression
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def write_bundle(
    path: Path,
    version: str,
    roles: Mapping[str, RoleNeeds],
    contents: Iterable[tuple[BundleFile, Path]],
    key: Ed25519PrivateKey,
) -> Manifest:
    """Write and sign a bundle; replaces `path` when it is whole. The installer is added to what is given."""
    installer = make_installer()
    listed = list(contents)
    digest = hashlib.sha256(installer).hexdigest()
    files = [each for each, _ in listed] + [BundleFile(INSTALLER, digest, len(installer), tuple(sorted(roles)))]
    raw = write_manifest(version, dict(roles), files)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.making")
    with zipfile.ZipFile(making, "w", zipfile.ZIP_STORED) as archive:
        _put(archive, MANIFEST, raw)
        _put(archive, SIGNATURE, key.sign(raw))
        _put(archive, INSTALLER, installer)
        for file, source in listed:
            _put(archive, file.name, source.read_bytes())
    making.replace(path)
    return read_manifest(raw, key.sign(raw), public_half(key))


class Bundle:
    """An opened bundle: its signature was right then; a file's digest is checked whenever the file is read."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self.key = key
        try:
            with zipfile.ZipFile(path) as archive:
                self.raw, self.signature = archive.read(MANIFEST), archive.read(SIGNATURE)
                names = set(archive.namelist())
        except (OSError, KeyError, zipfile.BadZipFile) as wrong:
            raise BundleError(
                f"{path} is no bundle ({wrong}): make one with `gpuferry appliance bundle build`"
            ) from None
        self.manifest = read_manifest(self.raw, self.signature, key)
        expected = {each.name for each in self.manifest.files} | {MANIFEST, SIGNATURE}
        if names != expected:
            raise BundleError(f"{path} and its manifest name different files: {sorted(names ^ expected)[:4]}")

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def installer(self) -> bytes:
        """`installer.pyz` of this bundle."""
        return self.read(next(each for each in self.manifest.files if each.name == INSTALLER))

    def read(self, file: BundleFile) -> bytes:
        """A file's bytes. Raises BundleError when they are not those that were signed."""
        with zipfile.ZipFile(self.path) as archive:
            content = archive.read(file.name)
        if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
            raise BundleError(f"{file.name} in {self.path} was changed: build the bundle again")
        return content


def open_bundle(path: Path, folder: Path) -> Bundle:
    """A bundle of the site whose folder this is. Raises BundleError, SignatureError."""
    return Bundle(path, public_half(signing_key(folder)))


def latest_bundle(folder: Path) -> Bundle:
    """The site's newest bundle. Raises BundleError when there is none."""
    found = sorted((folder / "bundles").glob(f"*{SUFFIX}"), key=lambda each: each.stat().st_mtime)
    if not found:
        raise BundleError("there is no bundle yet: make one with `gpuferry appliance bundle build`")
    return open_bundle(found[-1], folder)
