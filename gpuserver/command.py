"""`gpuferry gpuserver serve`: run the GPU server daemon."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import structlog

from gpuserver.daemon import Daemon, WorkerCommand
from gpuserver.gpus import NvmlError, load_nvml, read_gpus
from gpuserver.native import NativePartMissingError, find_native
from gpuserver.static_leases import StaticLeases

WORKER = "gpuserver/worker/bin/gpuferry-worker"
DEFAULT_PORT = 9797


class SettingError(ValueError):
    """A setting of the daemon is unusable; the message says which and why."""


def read_secret(path: Path) -> bytes:
    """The shared secret: one line of hexadecimal digits, at least 32 of them. Raises SettingError."""
    try:
        secret = bytes.fromhex(path.read_text().split()[0])
    except (OSError, ValueError, IndexError) as error:
        raise SettingError(f"{path}: cannot read a secret of hexadecimal digits: {error}") from error
    if len(secret) < 16:
        raise SettingError(f"{path}: the secret is shorter than 16 bytes (32 hexadecimal digits)")
    return secret


def listen(address: str) -> socket.socket:
    """A listening socket for `host:port` or `unix:/path`. Raises SettingError."""
    try:
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
        else:
            host, _, port = address.rpartition(":")
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, int(port)), family=family)
        listener.listen(128)
    except (OSError, ValueError) as error:
        raise SettingError(f"cannot listen on {address}: {error}") from error
    return listener


def ask_worker(program: Path, driver: str) -> tuple[int, list[int]]:
    """The specification's digest, and the MiB of each GPU, as the worker sees them. Raises SettingError."""
    done = subprocess.run(
        [str(program), "--describe", driver],
        env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},  # as sessions' workers and NVML count GPUs
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    words = done.stdout.split()
    if done.returncode or not words:
        raise SettingError(f"the worker cannot use the CUDA driver {driver}: {done.stderr.strip() or done.returncode}")
    return int(words[0], 16), [int(word) for word in words[1:]]


def describe_gpus() -> list[dict[str, object]]:
    try:
        return [dataclasses.asdict(gpu) for gpu in read_gpus()]
    except NvmlError:
        return []


def driver_library(given: str) -> str:
    """`softgpu` and `null` name the drivers that come with gpuferry; anything else is a path or a library's name."""
    bundled = {
        "softgpu": "gpuserver/softgpu/lib/libcuda.so.1",
        "null": "gpuserver/worker/nulldriver/lib/libcuda.so.1",
    }
    return str(find_native(bundled[given])) if given in bundled else given


def nvml_library(driver: str) -> str:
    """The NVML of a driver: the one beside it, or the system's."""
    beside = Path(driver).parent / "libnvidia-ml.so.1"
    return str(beside) if "/" in driver else beside.name


async def run_daemon(daemon: Daemon, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(daemon.serve(listener))
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()
    for record in list(daemon.sessions.values()):
        record.worker.kill()


def serve(options: argparse.Namespace) -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    driver = driver_library(options.driver)
    worker = WorkerCommand(find_native(WORKER), driver, nvml=nvml_library(driver))
    secret = read_secret(options.secret_file)
    specification, totals = ask_worker(worker.program, driver)
    folder = Path(driver).parent if "/" in driver else None
    try:
        load_nvml(folder)
    except NvmlError as error:
        sys.stderr.write(f"gpuferry gpuserver: {error}: health and use of the GPUs stay unknown\n")
    listener = listen(options.listen)
    daemon = Daemon(StaticLeases(secret, lambda: totals), worker, specification, describe_gpus)
    address = listener.getsockname()
    shown = f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
    sys.stdout.write(f"gpuferry gpuserver: {len(totals)} GPU(s), listening on {shown}\n")
    sys.stdout.flush()
    asyncio.run(run_daemon(daemon, listener))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpuferry gpuserver", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve_parser = commands.add_parser("serve", help="run the GPU server daemon")
    serve_parser.add_argument("--listen", default=f"0.0.0.0:{DEFAULT_PORT}", help="host:port or unix:/path")
    serve_parser.add_argument("--secret-file", type=Path, required=True, help="one line of hexadecimal digits")
    serve_parser.add_argument(
        "--driver", default="libcuda.so.1", help="the CUDA driver: a path, `softgpu`, or `null` (measures forwarding)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        return serve(options)
    except (SettingError, NativePartMissingError) as error:
        sys.stderr.write(f"gpuferry gpuserver: {error}\n")
        return 1
