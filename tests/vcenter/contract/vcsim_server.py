"""govmomi's vcsim: built once from Debian's packaged library, started afresh for each test."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

SOURCE = Path(__file__).with_name("vcsim")
BUILD = Path(__file__).parents[3] / "build" / "vcsim"
GOPATH = Path("/usr/share/gocode")
PACKAGES = ("golang-go", "golang-github-vmware-govmomi-dev", "golang-github-google-uuid-dev")
USER, PASSWORD = "administrator@vsphere.local", "VMware1!"


def _missing() -> bool:
    return shutil.which("go") is None or not (GOPATH / "src/github.com/vmware/govmomi/vapi/simulator").is_dir()


def install_go() -> None:
    """Installs Go and the library where that is possible; otherwise skips the test, saying why."""
    if not _missing():
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"vcsim needs {', '.join(PACKAGES)} (Debian), which only root can install with apt-get")
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or _missing():
        pytest.skip(f"vcsim needs {', '.join(PACKAGES)}, and apt-get could not install them: {done.stderr[-300:]}")


def vcsim_program() -> Path:
    """The program, built if it is not there yet; several test processes wait for one build."""
    digest = hashlib.sha256((SOURCE / "main.go").read_bytes()).hexdigest()[:16]
    program = BUILD / f"vcsim-{digest}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            install_go()
            environment = {
                **os.environ,
                "GO111MODULE": "off",
                "GOPATH": str(GOPATH),
                "GOCACHE": str(BUILD / "cache"),
                "GOFLAGS": "-p=2",
            }
            building = BUILD / f"building-{os.getpid()}"
            done = subprocess.run(
                ["go", "build", "-o", str(building), "."],
                cwd=SOURCE,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            building.rename(program)
            shutil.rmtree(BUILD / "cache", ignore_errors=True)
    return program


@contextlib.contextmanager
def vcsim(api_version: str = "7.0.3.0") -> Iterator[SimpleNamespace]:
    """A running vcsim with its small inventory: where it is and who may log in."""
    process = subprocess.Popen(
        [str(vcsim_program()), "-api-version", api_version, "-user", USER, "-password", PASSWORD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().rpartition(":")
        yield SimpleNamespace(host=host, port=int(port), user=USER, password=PASSWORD)
    finally:
        process.kill()
        process.wait()
