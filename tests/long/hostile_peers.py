"""A million hostile frames and hellos: `python -m tests.long.hostile_peers [CASES] [FIRST_SEED]` in a built tree.

Sessions that have proved themselves send random and damaged frames to real workers (CUDA's and NVML's), as fast as they
are taken; strangers send damaged hellos. A case is a frame that a worker has taken, by the daemon's own count, or a
hello. The run fails where a worker ends by a signal, where the daemon ends, or where a neighbour's session notices.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "gpuserver" / "forwarding")]

from gpu_server import GpuServer, gpu_server  # noqa: E402
from test_forwarded_isolation import dial, hello  # noqa: E402
from test_hostile_frames import connect, frame, handle, opening_frame  # noqa: E402
from test_hostile_nvml import nvml_frame  # noqa: E402

from gpuserver.protocol.handshake import CLIENT_HELLO, PROTOCOL_VERSION, Purpose  # noqa: E402
from gpuserver.protocol.specification import read_specification  # noqa: E402

AWAITED = 1
BATCH = 200
BATCHES = 25
PROGRAM = str(HERE.parent / "gpuserver" / "forwarding" / "driver_api.py")
ENDED = re.compile(r"session ended.*?\bcalls=(\d+).*?status=(-?\d+)|session ended.*?status=(-?\d+).*?\bcalls=(\d+)")


def cuda_session(server: GpuServer, seed: int) -> None:
    dice = random.Random(seed)
    primary = 0x6F << 56 | 1 << 48 | 1 << 32 | 1 << 31
    with connect(server, dice) as connection:
        connection.sendall(opening_frame())
        connection.recv(1 << 16)
        send_all(connection, lambda n: frame(dice, n, dice.choice((0, primary, primary, handle(dice)))))


def nvml_session(server: GpuServer, seed: int) -> int:
    dice = random.Random(seed)
    with connect(server, dice, Purpose.NVML) as connection:
        connection.sendall(struct.pack("<IHHQQ", 0, 1, AWAITED, 1, 0))
        connection.recv(1 << 16)
        return send_all(connection, lambda n: nvml_frame(dice, n))


def send_all(connection: socket.socket, make: object) -> int:
    """Batches of frames until they are all sent or the worker has ended; what it answers is thrown away."""
    assert callable(make)
    stop = threading.Event()

    def drain() -> None:
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass
        stop.set()

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    number = 2
    with contextlib.suppress(OSError):
        for _ in range(BATCHES):
            if stop.is_set():
                break
            connection.sendall(b"".join(make(number + i) for i in range(BATCH)))
            number += BATCH
        connection.shutdown(socket.SHUT_WR)
    reader.join(60)
    return number - 2


def stranger(server: GpuServer, dice: random.Random) -> None:
    data = bytearray(hello(server, PROTOCOL_VERSION, int(read_specification().digest, 16)))
    for _ in range(dice.randrange(1, 4)):
        data[dice.randrange(CLIENT_HELLO.size)] = dice.randrange(256)
    data += dice.randbytes(dice.choice((0, 31, 32, 200)))
    with dial(server) as connection, contextlib.suppress(OSError):
        connection.sendall(data[: dice.choice((len(data), dice.randrange(len(data))))])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def main() -> int:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    hellos = nvml = taken = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        gpu_server(Path(folder), "softgpu", GPUFERRY_SOFTGPU_MEMORY_MIB="1024") as server,
    ):
        neighbour = server.start(sys.executable, PROGRAM, "hold", memory_mib=64)
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == "holding\n"
        while taken + hellos + nvml < wanted:
            cuda_session(server, seed)
            if seed % 5 == 0:
                nvml += nvml_session(server, seed)
                dice = random.Random(seed)
                for _ in range(50):
                    stranger(server, dice)
                hellos += 50
            log = server.log.read_text()
            ends = [(m[1] or m[4], m[2] or m[3]) for m in ENDED.finditer(log)]
            taken = sum(int(calls) for calls, _ in ends)
            bad = [status for _, status in ends if int(status) < 0]
            if bad or server.process.poll() is not None:
                sys.stderr.write(f"seed {seed}: a worker ended with {bad}\n{log[-4000:]}\n")
                return 1
            if seed % 50 == 0:
                sys.stdout.write(f"seed {seed}: {taken} frames, {nvml} NVML frames, {hellos} hellos\n")
                sys.stdout.flush()
            seed += 1
        out, _ = neighbour.communicate("\n\n", timeout=60)
        if out != "still 0\n":
            sys.stderr.write(f"the neighbour noticed: {out}\n")
            return 1
    sys.stdout.write(f"{taken} frames, {nvml} NVML frames, {hellos} hellos: no worker ended by a signal\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
