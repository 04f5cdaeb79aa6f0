"""`gpuferry netperf`: the way from a client to a GPU server, measured: round trip, bandwidth, MTU. Both ends are here.

The daemon serves a TCP port (`PathResponder`): what arrives as a ping goes back at once, what arrives as a stream is
counted. A round trip is the median of many; bandwidth is one stream of one second.
"""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from dataclasses import dataclass
from typing import Optional

PORT = 4744
"""Where a GPU server's responder listens."""
AT_ONCE = 4
"""How many measurements a server takes part in at once; more are turned away."""
LONGEST_S = 30.0
PING, STREAM = b"P", b"S"
CHUNK = 1 << 20
PINGS = 200
STREAM_S = 1.0
IP_MTU = 14
"""Linux: the MTU that the kernel knows of the path (ip(7))."""


@dataclass(frozen=True)
class PathMeasurement:
    """`round_trip_us`: median; `bandwidth_mbps`: Mbit/s of one TCP stream; `mtu`: bytes, where the kernel knows it."""

    round_trip_us: float
    bandwidth_mbps: float
    mtu: Optional[int]


def measure(host: str, port: int, timeout_s: float = 5.0) -> PathMeasurement:
    """Measure the path to a port that `answer` serves. Raises OSError when it cannot be reached."""
    with socket.create_connection((host, port), timeout_s) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(PING)
        times = []
        for _ in range(PINGS):
            started = time.perf_counter()
            line.sendall(b"x")
            if not line.recv(1):
                raise ConnectionError(f"{host}:{port} does not answer netperf")
            times.append(time.perf_counter() - started)
        mtu = path_mtu(line)
    with socket.create_connection((host, port), timeout_s) as line:
        line.sendall(STREAM)
        block = bytes(CHUNK)
        started = time.perf_counter()
        while time.perf_counter() - started < STREAM_S:
            line.sendall(block)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < 8:
            part = line.recv(8 - len(answer))
            if not part:
                raise ConnectionError(f"{host}:{port} broke off the stream")
            answer += part
        elapsed = time.perf_counter() - started
    (received,) = struct.unpack("!Q", answer)
    return PathMeasurement(statistics.median(times) * 1e6, received * 8 / elapsed / 1e6, mtu)


def path_mtu(line: socket.socket) -> Optional[int]:
    try:
        return line.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return None


def answer(line: socket.socket) -> None:
    """Serve one measurement on an accepted connection; returns when the other side has finished."""
    with line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind = line.recv(1)
        if kind == PING:
            while True:
                ping = line.recv(64)
                if not ping:
                    return
                line.sendall(ping)
        elif kind == STREAM:
            received = 0
            buffer = bytearray(CHUNK)
            while True:
                count = line.recv_into(buffer)
                if not count:
                    break
                received += count
            line.sendall(struct.pack("!Q", received))


class PathResponder:
    """The server's end, in threads of its own. Raises OSError when the port is taken."""

    def __init__(self, host: str = "", port: int = PORT) -> None:
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self._free = threading.Semaphore(AT_ONCE)
        threading.Thread(target=self._accept, name="path-responder", daemon=True).start()

    def close(self) -> None:
        # Closing alone would leave the accepting thread asleep.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            if not self._free.acquire(blocking=False):
                line.close()
                continue
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        line.settimeout(LONGEST_S)
        try:
            answer(line)
        except OSError:
            pass  # The client has gone or dawdled: its measurement fails on its side.
        finally:
            self._free.release()
