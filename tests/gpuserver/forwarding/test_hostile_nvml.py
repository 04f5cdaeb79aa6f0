"""Nonsense to the worker that reads NVML for a client: it answers or ends by its own decision, and nobody notices."""

from __future__ import annotations

import random
import struct

from gpu_server import GpuServer
from test_forwarded_isolation import inventory
from test_hostile_frames import connect

from gpuserver.protocol.handshake import Purpose, receive_exactly
from gpuserver.protocol.nvml_specification import read_nvml_specification

AWAITED = 1
OPEN = 1
LAST = OPEN + len(read_nvml_specification().generated)
FRAMES = 2000


def nvml_frame(dice: random.Random, number: int) -> bytes:
    """A request whose fields may be right: a device, a presence, a count, a versioned size, bytes."""
    fields = [dice.choice((0, 0, 1, 2, dice.getrandbits(64)))]
    fields += [dice.choice((0, 1, 1, 1, 8, 64, 1 << 20, dice.getrandbits(64))) for _ in range(dice.randrange(6))]
    payload = b"".join(struct.pack("<Q", field) for field in fields)
    if dice.random() < 0.3:
        payload += dice.randbytes(8 * dice.randrange(64))
    return struct.pack("<IHHQQ", len(payload), dice.randrange(LAST + 3), AWAITED, number, 0) + payload


def test_the_worker_answers_every_frame_or_ends_by_itself(software_server: GpuServer) -> None:
    dice = random.Random(7)
    with connect(software_server, dice, Purpose.NVML) as connection:
        connection.sendall(struct.pack("<IHHQQ", 0, OPEN, AWAITED, 1, 0))
        for number in range(2, FRAMES + 2):
            header = receive_exactly(connection, 24)
            answered, size, result, *_ = struct.unpack("<QIiiHH", header)
            assert answered == number - 1
            if answered == 1:
                assert result == 0
            if size:
                receive_exactly(connection, size)
            connection.sendall(nvml_frame(dice, number))
    assert software_server.process.poll() is None
    assert inventory(software_server)["gpus"]
