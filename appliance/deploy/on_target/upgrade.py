"""An upgrade that the appliance has ordered: fetch the bundle's files for this machine, and let its installer install.

The order lies in the service's state folder, which the service can write to, so nothing in it is believed: the manifest
has to be signed by the key that was pinned at the deployment, its version has to be the one ordered, and every file has
to have the digest that the manifest names. TLS is not relied on; what is fetched is no secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Tuple

from .enrolment import is_enrolled
from .install import Request, interpreter, open_manifest, python_version
from .layout import Layout, read_json, write_file
from .manifest import MANIFEST, SAFE_VERSION, SIGNATURE, BundleError, Manifest
from .report import Failure

ORDER, RESULT = "upgrade.json", "upgrade-result.json"
"""As in gpuserver/protocol/control/upgrading.py, which writes the one and reads the other."""
INSTALLER = "tools/installer.pyz"
MARK = "gpuferry-request "
MANIFEST_BYTES = 4 << 20
FETCH_S = 60.0


def carry_out(layout: Layout) -> bool:
    """Carry out the order that lies there; whether the machine has the ordered version now. The result is left."""
    order = layout.state / ORDER
    try:
        version, url = _read(order)
    except Failure as wrong:
        version, url, detail, done = "", "", wrong.what, False
    else:
        try:
            detail, done = _install(layout, version, url), True
        except Failure as wrong:
            detail, done = wrong.what, False
        except (OSError, subprocess.SubprocessError) as wrong:
            detail, done = f"{type(wrong).__name__}: {wrong}", False
    with contextlib.suppress(OSError):
        write_file(layout.state / RESULT, json.dumps({"version": version, "done": done, "detail": detail}))
    return done


def _read(path: Path) -> Tuple[str, str]:
    """Version and address of an order; it is taken away. Raises Failure."""
    try:
        file = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            content = json.loads(os.read(file, 8192))
        finally:
            os.close(file)
            path.unlink()
        version, url = str(content["version"]), str(content["url"])
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        with contextlib.suppress(OSError):
            path.unlink()
        raise Failure("order", f"the order is unreadable: {wrong!r}") from None
    if not SAFE_VERSION.match(version) or not re.match(r"^https?://[^\s]+$", url):
        raise Failure("order", "the order names no version or no address")
    return version, url.rstrip("/")


def _install(layout: Layout, version: str, url: str) -> str:
    pinned = read_json(layout.trust)
    if not pinned:
        raise Failure("key", "no key was pinned on this machine: deploy to it over SSH once")
    config: Dict[str, Any] = read_json(layout.config) or {}
    parts = tuple(map(str, config.pop("parts", ())))
    config.pop("version", None)
    key = bytes.fromhex(str(pinned["key"]))
    layout.home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".fetched-", dir=str(layout.home)))
    try:
        for name in (MANIFEST, SIGNATURE):
            (folder / name).write_bytes(_fetch(f"{url}/{name}", MANIFEST_BYTES))
        manifest = open_manifest(folder, key)
        if manifest.version != version:
            raise Failure("bundle", f"version {version} was ordered, the bundle at {url} is {manifest.version}")
        installer = _fetch_files(layout, manifest, folder, url, parts)
        if not is_enrolled(layout, ""):
            raise Failure("ticket", "this machine is not enrolled: deploy to it over SSH with a ticket")
        request = Request(layout.role, folder, key, config, parts=parts)
        return _run(layout, folder / installer, request, version)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def _fetch_files(layout: Layout, manifest: Manifest, folder: Path, url: str, parts: Tuple[str, ...]) -> str:
    """Fetch what this machine needs; the digest of the bundle's installer."""
    try:
        chosen = manifest.select(layout.role, python_version(), parts)
    except BundleError as wrong:
        raise Failure("bundle", str(wrong)) from None
    found = ""
    for file in chosen:
        content = _fetch(f"{url}/{file.sha256}", file.size)
        target = folder / file.sha256
        target.write_bytes(content)
        if file.name == INSTALLER:
            found = file.sha256
            # This one is run, so it is compared here; the others are when it takes them in.
            _compare(content, file.sha256)
    if not found:
        raise Failure("bundle", "the bundle has no installer")
    return found


def _compare(content: bytes, sha256: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Failure("bundle", "the installer is not the one that the bundle's signed manifest names")


def _fetch(url: str, limit: int) -> bytes:
    # The signature decides whether it is the right thing, whoever sent it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    https = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    try:
        with opener.open(url, timeout=FETCH_S) as answer:
            content: bytes = answer.read(limit + 1)
    except (urllib.error.URLError, OSError) as wrong:
        raise Failure("network", f"{url} cannot be fetched: {wrong}") from None
    if len(content) > limit:
        raise Failure("bundle", f"{url} has more than {limit} bytes")
    return content


def _run(layout: Layout, installer: Path, request: Request, version: str) -> str:
    fields = {
        "role": request.role,
        "folder": str(request.folder),
        "key": request.key.hex(),
        "config": request.config,
        "parts": list(request.parts),
    }
    done = subprocess.run(
        [interpreter(), "-I", str(installer), "install", "--root", str(layout.root)],
        input=f"{MARK}{json.dumps(fields)}\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        cwd="/",
    )
    lines = done.stdout.splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if "result" in last:
        return f"version {version} is installed"
    failure = last.get("failure", {})
    raise Failure(str(failure.get("code", "failed")), str(failure.get("what", f"status {done.returncode}")))
