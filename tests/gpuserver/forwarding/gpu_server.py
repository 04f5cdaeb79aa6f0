"""A real GPU server daemon on loopback for tests, and programs that use it through the shim."""

from __future__ import annotations

import os
import re
import secrets
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clientagent.run import find_shim

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60


@dataclass
class GpuServer:
    """A running daemon: where it listens, and the file with its secret."""

    address: str
    secret_file: Path
    process: subprocess.Popen[str]
    log: Path

    def command(self, *program: str, memory_mib: int | None = None) -> list[str]:
        memory = ["-m", str(memory_mib)] if memory_mib else []
        return [
            *(sys.executable, "-m", "clientagent.command", "run"),
            *("--server", self.address, "--secret-file", str(self.secret_file)),
            *memory,
            "--",
            *program,
        ]

    def run(
        self, *program: str, memory_mib: int | None = None, timeout: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program through forwarding to its end."""
        return subprocess.run(
            self.command(*program, memory_mib=memory_mib),
            env=surroundings(**variables),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *program: str, memory_mib: int | None = None, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*program, memory_mib=memory_mib),
            env=surroundings(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def shim_environment(self, memory_mib: int = 0) -> dict[str, str]:
        """What `gpuferry run` sets, for a process that a test starts itself."""
        return {
            "LD_LIBRARY_PATH": str(find_shim()),
            "GPUFERRY_SERVER": self.address,
            "GPUFERRY_LEASE": secrets.token_hex(16),
            "GPUFERRY_SECRET_FILE": str(self.secret_file),
            "GPUFERRY_MEMORY_MIB": str(memory_mib),
            "CUPY_COMPILE_WITH_PTX": "1",
        }


def surroundings(**variables: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GPUFERRY_", "CUDA_VISIBLE", "LD_"))}
    # Another build than the ordinary one (tests/long/sanitized.py), and what has to be loaded for it.
    kept = {
        k: os.environ[k]
        for k in ("GPUFERRY_NATIVE", "LD_PRELOAD")
        if "GPUFERRY_NATIVE" in os.environ
        if k in os.environ
    }
    return inherited | kept | {"PYTHONPATH": python_path()} | variables


def python_path() -> str:
    """This source tree before whatever else these tests found their modules by."""
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", str(ROOT))]
    return os.pathsep.join([str(ROOT), *rest])


@contextmanager
def gpu_server(folder: Path, driver: str, **variables: str) -> Iterator[GpuServer]:
    """A daemon on a free port of loopback, with this CUDA driver (`softgpu`, `null`)."""
    # Processes share the memory of a software GPU by its UUID: tests do not.
    count = int(variables.get("GPUFERRY_SOFTGPU_DEVICES", "1"))
    variables.setdefault("GPUFERRY_SOFTGPU_UUID", ",".join(f"GPU-{uuid.uuid4()}" for _ in range(count)))
    secret = folder / "secret"
    secret.write_text(secrets.token_hex(32) + "\n")
    log = folder / "daemon.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "clientagent.command", "gpuserver", "serve", "--listen", "127.0.0.1:0"),
                *("--secret-file", str(secret), "--driver", driver),
            ],
            env=surroundings(**variables),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], START_SECONDS)[0], "the daemon says nothing"
        line = process.stdout.readline()
        found = re.search(r"listening on (\S+)", line)
        assert found, f"{line}{log.read_text()}"
        yield GpuServer(found[1], secret, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Stats:
    """What `GPUFERRY_STATS=1` prints at exit."""

    round_trips: int
    posts: int


def read_stats(stderr: str) -> Stats:
    found = re.search(r"round_trips (\d+) posts (\d+)", stderr)
    assert found, stderr
    return Stats(int(found[1]), int(found[2]))
