"""`gpuferry gpuserver serve`: run the GPU server daemon, in a pool (enrolled at an appliance) or alone.

gpuferry enrol --as server TICKET ; gpuferry gpuserver serve     leases come from the appliance
gpuferry gpuserver serve --secret-file FILE                      one server alone: whoever knows the secret
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from gpuserver.control import ServerControl
from gpuserver.daemon import Daemon, WorkerCommand
from gpuserver.gpus import NvmlError, load_nvml, read_gpus
from gpuserver.native import NativePartMissingError, find_native
from gpuserver.pool_host import PoolHost
from gpuserver.pool_leases import OfferedGpu
from gpuserver.protocol.control.curve import Identity, IdentityError, identity_path, load_identity
from gpuserver.protocol.control.messages import SERVER
from gpuserver.protocol.control.path import PORT as PATH_PORT
from gpuserver.protocol.version import own_version
from gpuserver.static_leases import StaticLeases
from gpuserver.xid import KERNEL_LOG

WORKER = "gpuserver/worker/bin/gpuferry-worker"
DEFAULT_PORT = 9797
ACTIVITY_S = 0.5
HOST_FILE = Path("/etc/gpuferry/host")
"""Where the deployment notes which ESXi host the VM is on."""


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


def ask_worker(program: Path, driver: str) -> tuple[int, list[OfferedGpu]]:
    """The specification's digest, and the GPUs as the worker's CUDA driver sees them. Raises SettingError."""
    done = subprocess.run(
        [str(program), "--describe", driver],
        env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},  # as sessions' workers and NVML count GPUs
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SettingError(f"the worker cannot use the CUDA driver {driver}: {done.stderr.strip() or done.returncode}")
    gpus = []
    for ordinal, line in enumerate(lines[1:]):
        uuid, memory_mib, multiprocessors, name = line.split(" ", 3)
        gpus.append(OfferedGpu(uuid, ordinal, int(memory_mib), int(multiprocessors), name))
    return int(lines[0], 16), gpus


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


def reachable_address(listener: socket.socket, identity: Identity) -> str:
    """Where clients find this server: where it listens, or, when that is everywhere, the address that faces the
    appliance. Raises SettingError."""
    bound = listener.getsockname()
    if isinstance(bound, str):
        return f"unix:{bound}"
    host, port = bound[0], bound[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104
        appliance = identity.endpoints[0].removeprefix("tcp://").rpartition(":")
        try:
            facing = socket.getaddrinfo(appliance[0].strip("[]"), int(appliance[2]), type=socket.SOCK_DGRAM)[0]
            with socket.socket(facing[0], socket.SOCK_DGRAM) as way:
                way.connect(facing[4])  # sends nothing; the kernel chooses the address of its end
                host = way.getsockname()[0]
        except (OSError, ValueError) as unknown:
            raise SettingError(
                f"which address clients reach this server at cannot be found out ({unknown}): say it with --address"
            ) from unknown
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
        record.kill()


async def count_activity(daemon: Daemon, host: PoolHost) -> None:
    """Note what sessions do for the next heartbeat, as long as the daemon runs."""
    while True:
        host.leases.note_activity(daemon.lease_activity())
        await asyncio.sleep(ACTIVITY_S)


async def run_in_pool(
    daemon_of: Callable[[PoolHost], Daemon],
    listener: socket.socket,
    identity: Identity,
    options: argparse.Namespace,
    gpus: list[OfferedGpu],
) -> None:
    """The daemon with the appliance's leases; the control link has threads of its own."""
    loop = asyncio.get_running_loop()

    def end_sessions(lease: bytes) -> None:
        asyncio.run_coroutine_threadsafe(daemon.end_sessions(lease), loop).result()

    host = PoolHost(
        address=options.address or reachable_address(listener, identity),
        host=options.host or (HOST_FILE.read_text().strip() if HOST_FILE.exists() else ""),
        version=own_version(),
        gpus={gpu.uuid: gpu for gpu in gpus},
        end_sessions=end_sessions,
        folder=options.folder,
        kernel_log=options.kernel_log,
    )
    daemon = daemon_of(host)
    counting = asyncio.create_task(count_activity(daemon, host))
    control = ServerControl(identity, host, options.path_port or None)
    control.start()
    try:
        await run_daemon(daemon, listener)
    finally:
        await asyncio.to_thread(control.stop)
        counting.cancel()


def serve(options: argparse.Namespace) -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    driver = driver_library(options.driver)
    worker = WorkerCommand(find_native(WORKER), driver, nvml=nvml_library(driver))
    secret = read_secret(options.secret_file) if options.secret_file else None
    identity = None if secret else load_identity(options.identity or identity_path(SERVER))
    if identity and identity.role != SERVER:
        raise SettingError(f"{identity.id} is enrolled as a {identity.role}: enrol with `gpuferry enrol --as server`")
    specification, gpus = ask_worker(worker.program, driver)
    folder = Path(driver).parent if "/" in driver else None
    try:
        load_nvml(folder)
    except NvmlError as error:
        sys.stderr.write(f"gpuferry gpuserver: {error}: health and use of the GPUs stay unknown\n")
    listener = listen(options.listen)
    address = listener.getsockname()
    shown = f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
    role = f", {identity.name} of the pool" if identity else ""
    sys.stdout.write(f"gpuferry gpuserver: {len(gpus)} GPU(s), listening on {shown}{role}\n")
    sys.stdout.flush()
    if identity:

        def daemon_of(host: PoolHost) -> Daemon:
            return Daemon(host.leases, worker, specification, describe_gpus)

        asyncio.run(run_in_pool(daemon_of, listener, identity, options, gpus))
    elif secret:
        totals = [gpu.memory_mib for gpu in gpus]
        daemon = Daemon(StaticLeases(secret, lambda: totals), worker, specification, describe_gpus)
        asyncio.run(run_daemon(daemon, listener))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpuferry gpuserver", description="The GPU server daemon.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve_parser = commands.add_parser("serve", help="run the GPU server daemon")
    serve_parser.add_argument("--listen", default=f"0.0.0.0:{DEFAULT_PORT}", help="host:port or unix:/path")
    whose = serve_parser.add_mutually_exclusive_group()
    whose.add_argument("--secret-file", type=Path, help="serve alone: one line of hexadecimal digits")
    whose.add_argument("--identity", type=Path, help="serve the pool as `gpuferry enrol --as server` has noted here")
    serve_parser.add_argument("--address", default="", help="host:port at which clients reach this server")
    serve_parser.add_argument("--host", default="", help="the ESXi host this VM runs on (/etc/gpuferry/host)")
    serve_parser.add_argument("--path-port", type=int, default=PATH_PORT, help="for `gpuferry netperf`; 0: none")
    serve_parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where its files are kept")  # noqa: S108
    serve_parser.add_argument("--kernel-log", type=Path, default=KERNEL_LOG, help="where Xid errors are looked for")
    serve_parser.add_argument(
        "--driver", default="libcuda.so.1", help="the CUDA driver: a path, `softgpu`, or `null` (measures forwarding)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        return serve(options)
    except (SettingError, NativePartMissingError, IdentityError) as error:
        sys.stderr.write(f"gpuferry gpuserver: {error}\n")
        return 1
