"""Bundles with packages fetched for every Python that a target may have, installed and run with each of those Pythons.

    python -m tests.long.bundle_pythons [--with-cupy]

Fetches from pip's index. For every Python of the bundle that is on this machine (`pythonX.Y` on PATH, or pyenv's) the
client's installer runs with it under a root of its own: it verifies, unpacks, enrols and starts the agent, which a real
appliance welcomes; then `gpuferry list` runs, and everything is removed. Exit status 1 when one of these fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/appliance")]

from service_site import ServiceSite  # noqa: E402

from appliance.deploy.building import build_bundle  # noqa: E402
from appliance.deploy.bundle import INSTALLER, Bundle  # noqa: E402
from appliance.deploy.on_target.manifest import MANIFEST, SIGNATURE  # noqa: E402
from appliance.peers import new_enrolment_token  # noqa: E402
from gpuserver.protocol.control.curve import Ticket  # noqa: E402


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def interpreter(version: str) -> str | None:
    """A Python of this version, where there is one."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    return str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")


def lay_out(bundle: Bundle, python: str, folder: Path) -> Path:
    """What a deployment copies for a client with this Python; returns the installer."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(bundle.raw)
    (folder / SIGNATURE).write_bytes(bundle.signature)
    installer = next(each for each in bundle.manifest.files if each.name == INSTALLER)
    for file in [installer, *bundle.manifest.select("client", python)]:
        (folder / file.sha256).write_bytes(bundle.read(file))
    return folder / installer.sha256


def install(service: ServiceSite, bundle: Bundle, version: str, python: str, folder: Path) -> str:
    """Install, use and remove a client with a Python; what went wrong, empty when nothing did."""
    root, name = folder / "root", f"python-{version}"
    root.mkdir(parents=True)
    installer = lay_out(bundle, version, folder / "staged")
    token = new_enrolment_token(service.engine, "client", name=name)
    request = {
        "role": "client",
        "folder": str(folder / "staged"),
        "key": bundle.key.hex(),
        "config": {},
        "ticket": str(Ticket(service.site.config.enrol_endpoint, service.site.curve_public, token)),
        "name": name,
    }
    command = [python, "-I", str(installer)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "install", "--root", str(root)],
        input=f"gpuferry-request {json.dumps(request)}\n", capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return done.stdout[-500:] + done.stderr[-500:]
    took = time.monotonic() - started
    environment = {**os.environ, "GPUFERRY_IDENTITY": str(root / "etc/gpuferry/identity.json")}
    environment.pop("PYTHONPATH", None)
    listed = subprocess.run(
        [str(root / "usr/local/bin/gpuferry"), "list", "leases"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    gone = subprocess.run(
        [*command, "uninstall", "client", "--root", str(root)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    left = [str(path) for path in root.rglob("*") if path.is_file()]
    if listed.returncode or gone.returncode or left:
        return f"list: {listed.stderr.strip()}; uninstall: {gone.stdout[-300:]}; left: {left[:5]}"
    say(f"  Python {version}: installed and welcomed in {took:.1f} s, used, removed")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--with-cupy", action="store_true", help="fetch CuPy as well (gigabytes)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuferry-pythons-") as name:
        folder = Path(name)
        service = ServiceSite(folder / "site", f"sqlite:///{folder / 'appliance.db'}")
        failed = 0
        try:
            service.serve()
            started = time.monotonic()
            bundle = build_bundle(service.folder, cupy=options.with_cupy)
            say(f"built in {time.monotonic() - started:.0f} s, {bundle.path.stat().st_size >> 20} MiB")
            service.await_up()
            for role, needs in bundle.manifest.roles.items():
                for version in needs.python:
                    parts = ("cupy",) if options.with_cupy and role == "server" else ()
                    chosen = bundle.manifest.select(role, version, parts)
                    say(f"{role}, Python {version}: {len(chosen)} files, {sum(each.size for each in chosen) >> 20} MiB")
            for version in bundle.manifest.roles["client"].python:
                python = interpreter(version)
                if python is None:
                    say(f"  Python {version}: not on this machine")
                    continue
                wrong = install(service, bundle, version, python, folder / version)
                failed += bool(wrong)
                if wrong:
                    say(f"  Python {version}: FAILED: {wrong}")
        finally:
            service.close()
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
