"""A client that proved itself and then sends nonsense: its worker may end by its own decision, never by a signal; the
daemon and other sessions do not notice. GPUFERRY_FUZZ_SESSIONS and GPUFERRY_FUZZ_FRAMES make the test longer."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import sys
import time
from pathlib import Path

from gpu_server import GpuServer

from gpuserver.protocol.declare import HANDLE_KINDS
from gpuserver.protocol.generate_protocol import OWN_OPERATIONS, base_calls
from gpuserver.protocol.handshake import Purpose, introduce
from gpuserver.protocol.specification import read_specification

PROGRAMS = str(Path(__file__).resolve().parent / "driver_api.py")
SESSIONS = int(os.environ.get("GPUFERRY_FUZZ_SESSIONS", "12"))
FRAMES = int(os.environ.get("GPUFERRY_FUZZ_FRAMES", "150"))
AWAITED = 1
OPERATIONS = ["none", *OWN_OPERATIONS, *(c.symbol for c in base_calls(read_specification()))]
KINDS = len(set(HANDLE_KINDS.values())) + 1


def connect(server: GpuServer, dice: random.Random, purpose: Purpose = Purpose.SESSION) -> socket.socket:
    host, port = server.address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20)
    digest = int(read_specification().digest, 16)
    secret = bytes.fromhex(server.secret_file.read_text())
    introduce(connection, purpose, digest, dice.randbytes(16), secret, 32)
    return connection


def handle(dice: random.Random) -> int:
    """A handle that may be right, stale, of another kind, or made up."""
    index = dice.choice((0, 1, 2, 3, dice.randrange(1 << 31)))
    worker_named = dice.choice((0, 1 << 31))
    return 0x6F << 56 | dice.randrange(KINDS + 1) << 48 | dice.randrange(3) << 32 | worker_named | index


def field(dice: random.Random) -> bytes:
    number = dice.choice(
        (0, 1, 2, 8, 4096, 1 << 21, 1 << 32, (1 << 64) - 1, 0x2000_0000_0000, 0x1800_0000_0000, dice.getrandbits(64))
    )
    return struct.pack("<Q", handle(dice) if dice.random() < 0.4 else number)


def frame(dice: random.Random, number: int, context: int) -> bytes:
    payload = b"".join(field(dice) for _ in range(dice.randrange(0, 24)))
    if dice.random() < 0.1:
        payload += dice.randbytes(8 * dice.randrange(64))
    operation = dice.randrange(1, len(OPERATIONS) + 2)
    while operation < len(OPERATIONS) and OPERATIONS[operation] == "open_session":
        operation = dice.randrange(1, len(OPERATIONS) + 2)
    size = len(payload) if dice.random() < 0.995 else dice.getrandbits(32)
    return struct.pack("<IHHQQ", size, operation, AWAITED * dice.randrange(2), number, context) + payload


def opening_frame() -> bytes:
    """The request that opens a session: without patience, the program's only one, no addresses taken elsewhere."""
    return struct.pack("<IHHQQQQQ", 24, OPERATIONS.index("open_session"), AWAITED, 1, 0, 0, 0, 0)


def session_of_nonsense(server: GpuServer, seed: int) -> None:
    dice = random.Random(seed)
    with connect(server, dice) as connection:
        connection.sendall(opening_frame())
        connection.recv(1 << 16)
        primary = 0x6F << 56 | 1 << 48 | 1 << 32 | 1 << 31
        connection.settimeout(0.01)
        try:
            for number in range(2, FRAMES):
                connection.sendall(frame(dice, number, dice.choice((0, primary, primary, handle(dice)))))
                try:
                    while connection.recv(1 << 16):
                        pass
                except TimeoutError:
                    continue
                return
        except OSError:
            return


def test_nonsense_ends_at_most_its_own_session(software_server: GpuServer) -> None:
    neighbour = software_server.start(sys.executable, PROGRAMS, "hold", memory_mib=64)
    assert neighbour.stdout is not None
    assert neighbour.stdout.readline() == "holding\n"
    before = len(software_server.log.read_text())
    for seed in range(SESSIONS):
        session_of_nonsense(software_server, seed)
    out, _ = neighbour.communicate("\n\n", timeout=60)
    assert out == "still 0\n"
    assert software_server.process.poll() is None
    for _ in range(100):
        statuses = re.findall(r"session ended.*?status=(-?\d+)", software_server.log.read_text()[before:])
        if len(statuses) == SESSIONS + 1:
            break
        time.sleep(0.1)
    assert len(statuses) == SESSIONS + 1
    assert [s for s in statuses if int(s) < 0] == []
