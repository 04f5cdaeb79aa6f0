"""`gpuferry run`: start a program whose CUDA calls go to a GPU server.

The program replaces this process: its exit status, its output and the signals it gets are its own.
Only the standard library and the protocol's handshake here: this file runs on every client VM, on Python 3.9.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from gpuserver.protocol.handshake import HandshakeError, Purpose, introduce, receive_exactly

SHIM = "clientagent/shim/lib/libcuda.so.1"
CONNECT_SECONDS = 10.0
# A software GPU executes PTX, not machine code: these make the toolkits hand over PTX. The program's own settings win.
HAND_OVER_PTX = {"CUPY_COMPILE_WITH_PTX": "1"}


class RunError(RuntimeError):
    """The program cannot be started; the message says what is wrong and what to do."""


def find_shim() -> Path:
    """The folder of the libraries that programs load. Raises RunError."""
    root = Path(__file__).resolve().parent.parent
    prefixes = [root, root / "build" / "stage"]
    if override := os.environ.get("GPUFERRY_NATIVE"):
        prefixes.insert(0, Path(override))
    for prefix in prefixes:
        if (prefix / SHIM).exists():
            return (prefix / SHIM).parent
    raise RunError(f"{SHIM} is not installed: install the gpuferry wheel, or run `make native` in a source tree")


def read_secret(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text().split()[0])
    except (OSError, ValueError, IndexError) as error:
        raise RunError(f"cannot read the secret from {path}: {error}") from error


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
            f"cannot reach the GPU server {server}: {error}. Is `gpuferry gpuserver serve` running there, "
            "and the port open?"
        ) from error


def ask_inventory(server: str, secret: bytes) -> dict[str, Any]:
    """The GPUs and sessions of a server. Raises RunError."""
    with connect(server) as connection:
        try:
            introduce(connection, Purpose.INVENTORY, 0, bytes(16), secret)
            (size,) = struct.unpack("<I", receive_exactly(connection, 4))
            return dict(json.loads(receive_exactly(connection, size)))
        except (HandshakeError, OSError, ValueError) as error:
            raise RunError(f"GPU server {server}: {error}") from error


def program_environment(options: argparse.Namespace, shim: Path, inventory: dict[str, Any]) -> dict[str, str]:
    """The program's environment: this process's, with the shim first on the library path and the session's settings."""
    environment = dict(os.environ)
    before = environment.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = f"{shim}:{before}" if before else str(shim)
    environment["TRITON_LIBCUDA_PATH"] = str(shim)  # Triton asks ldconfig for libcuda unless it is told
    environment["GPUFERRY_SERVER"] = options.server
    environment["GPUFERRY_LEASE"] = secrets.token_hex(16)
    environment["GPUFERRY_SECRET_FILE"] = str(options.secret_file.resolve())
    environment["GPUFERRY_DEVICES"] = str(options.number)
    environment["GPUFERRY_MEMORY_MIB"] = str(options.memory or 0)
    if any("software" in str(gpu.get("name", "")).lower() for gpu in inventory["gpus"]):
        for name, value in HAND_OVER_PTX.items():
            environment.setdefault(name, value)
    return environment


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpuferry run", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="the GPU server")
    parser.add_argument("--secret-file", type=Path, required=True, help="the server's shared secret")
    parser.add_argument("-n", "--number", type=int, default=1, help="GPUs")
    parser.add_argument("-m", "--memory", type=int, help="MiB of each GPU; without it, whole GPUs")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="-- program and its arguments")
    options = parser.parse_args(arguments)
    if options.program[:1] == ["--"]:
        del options.program[0]
    if not options.program:
        parser.error("no program given: gpuferry run --server HOST:PORT --secret-file FILE -- program …")
    if options.number < 1 or (options.memory is not None and options.memory < 1):
        parser.error("-n and -m must be at least 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        inventory = ask_inventory(options.server, read_secret(options.secret_file))
        environment = program_environment(options, find_shim(), inventory)
    except RunError as error:
        sys.stderr.write(f"gpuferry run: {error}\n")
        return 1
    try:
        os.execvpe(options.program[0], options.program, environment)  # noqa: S606
    except FileNotFoundError:
        sys.stderr.write(f"gpuferry run: {options.program[0]}: no such program\n")
        return 127
    except OSError as error:
        sys.stderr.write(f"gpuferry run: {options.program[0]}: {error.strerror}\n")
        return 126
