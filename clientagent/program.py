"""Starting a program on the GPUs of a lease: the libraries it loads, what they are told, and the way to the servers.

Only the standard library and the protocol's handshake here: this file runs on every client VM, on Python 3.9.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from gpuserver.protocol.handshake import HandshakeError, Purpose, introduce, receive_exactly

SHIM = "clientagent/shim/lib/libcuda.so.1"
CONNECT_SECONDS = 10.0
# A software GPU executes PTX, not machine code: these make the toolkits hand over PTX. The program's own settings win.
HAND_OVER_PTX = {"CUPY_COMPILE_WITH_PTX": "1"}


class RunError(RuntimeError):
    """The program cannot be started; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Access:
    """The way to one server under a lease: `host:port`, the lease's name there, and the secret that proves it."""

    server: str
    lease: bytes
    secret: bytes


def find_shim() -> Path:
    """The folder of the libraries that programs load. Raises RunError."""
    root = Path(__file__).resolve().parent.parent
    prefixes = [root, root / "build" / "stage"]
    override = os.environ.get("GPUFERRY_NATIVE")
    if override:
        prefixes.insert(0, Path(override))
    for prefix in prefixes:
        if (prefix / SHIM).exists():
            return (prefix / SHIM).parent
    raise RunError(f"{SHIM} is not installed: install the gpuferry wheel, or run `make native` in a source tree")


def connect(server: str) -> socket.socket:
    """Raises RunError."""
    try:
        if server.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(server[len("unix:") :])
            return connection
        host, _, port = server.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot reach the GPU server {server} ({error}): check that `gpuferry gpuserver serve` runs there "
            "and that the port is open"
        ) from error


def ask_inventory(server: str, secret: bytes, lease: bytes = bytes(16)) -> Dict[str, Any]:
    """The GPUs and sessions of a server, as far as this lease may see them. Raises RunError."""
    with connect(server) as connection:
        try:
            introduce(connection, Purpose.INVENTORY, 0, lease, secret)
            (size,) = struct.unpack("<I", receive_exactly(connection, 4))
            return dict(json.loads(receive_exactly(connection, size)))
        except (HandshakeError, OSError, ValueError) as error:
            raise RunError(f"GPU server {server}: {error}") from error


def program_environment(
    shim: Path, settings: Mapping[str, str], gpus: Iterable[Mapping[str, Any]], own: Mapping[str, str] = os.environ
) -> Dict[str, str]:
    """A program's environment: `own` with the shim first on the library path, and what the shim is to know."""
    environment = dict(own)
    before = environment.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = f"{shim}:{before}" if before else str(shim)
    environment["TRITON_LIBCUDA_PATH"] = str(shim)  # Triton asks ldconfig for libcuda unless it is told
    environment.update(settings)
    if any("software" in str(gpu.get("name", "")).lower() for gpu in gpus):
        for name, value in HAND_OVER_PTX.items():
            environment.setdefault(name, value)
    return environment


def lease_settings(
    servers: Sequence[str], lease: bytes, secret_files: Sequence[Path], devices: Sequence[int]
) -> Dict[str, str]:
    """What the shim must know to open its sessions under a lease: for each server its address, the file with its
    secret and the number of its GPUs. The program numbers the GPUs in this order. Raises RunError."""
    if len(servers) > 1:
        for part in (*servers, *map(str, secret_files)):
            if "," in part:
                raise RunError(f"{part}: with several servers, neither address nor secret file may have a comma in it")
    return {
        "GPUFERRY_SERVER": ",".join(servers),
        "GPUFERRY_LEASE": lease.hex(),
        "GPUFERRY_SECRET_FILE": ",".join(map(str, secret_files)),
        "GPUFERRY_DEVICES": ",".join(map(str, devices)),
    }


def check_program(command: str, program: List[str]) -> int:
    """0 when there is such a program, else the exit status that shells give, after saying why."""
    if shutil.which(program[0]) is not None:
        return 0
    if os.path.exists(program[0]):
        sys.stderr.write(f"gpuferry {command}: {program[0]}: cannot be executed\n")
        return 126
    sys.stderr.write(f"gpuferry {command}: {program[0]}: no such program\n")
    return 127


def become(command: str, program: List[str], environment: Mapping[str, str]) -> int:
    """Replace this process by the program; returns only when that fails, with the exit status that shells give."""
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606
    except FileNotFoundError:
        sys.stderr.write(f"gpuferry {command}: {program[0]}: no such program\n")
        return 127
    except OSError as error:
        sys.stderr.write(f"gpuferry {command}: {program[0]}: {error.strerror}\n")
        return 126
