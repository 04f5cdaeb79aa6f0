"""The server's half of the handshake (the client's half and the layout of the messages: `handshake.h`).

It runs in the daemon, in Python, on messages of fixed size: no C++ code sees a byte of a stranger before the stranger
has proved that it knows the lease's secret.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass

PROTOCOL_VERSION = 1
MAGIC = b"gpuferry"
CLIENT_HELLO = struct.Struct("<8sIIQ16s16s32sII40sIIQ")
SERVER_HELLO = struct.Struct("<8sIIQ16s32sII")  # the proof follows
PROOF_SIZE = 32


class Purpose(enum.IntEnum):
    SESSION = 0
    ATTACH = 1
    INVENTORY = 2
    NVML = 3


class Refusal(enum.IntEnum):
    """Why a server refuses; the numbers are part of the protocol."""

    NONE = 0
    VERSION = 1
    UNKNOWN_LEASE = 2
    BAD_PROOF = 3
    NO_WORKER = 4
    UNKNOWN_SESSION = 5
    NO_ROOM = 6


class HandshakeError(ValueError):
    """The peer is no client of ours, or not of this lease; `refusal` says why in the protocol's terms."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


@dataclass(frozen=True)
class ClientHello:
    raw: bytes
    version: int
    purpose: Purpose
    specification: int
    lease: bytes
    session: bytes
    process: int
    program: str
    wanted_devices: int = 0
    wanted_memory_mib: int = 0


def read_client_hello(raw: bytes) -> ClientHello:
    """Take a client's first message apart. Raises HandshakeError when it is none."""
    fields = CLIENT_HELLO.unpack(raw)
    magic, version, purpose, specification, lease, session, _nonce, _features, process, program = fields[:10]
    devices, _reserved, memory = fields[10:]
    if magic != MAGIC or purpose not in tuple(Purpose):
        raise HandshakeError(Refusal.VERSION, "the peer does not speak gpuferry's protocol")
    shown = program.split(b"\0", 1)[0].decode("ascii", "replace")
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return ClientHello(raw, version, Purpose(purpose), specification, lease, session, process, shown, devices, memory)


def prove(secret: bytes, label: bytes, client: bytes, server: bytes) -> bytes:
    return hmac.new(secret, label + client + server, hashlib.sha256).digest()


def lease_key(lease: str, fence: int) -> bytes:
    """How one grant of the appliance is called in a ClientHello: 16 bytes. A later grant of the lease has another."""
    return hashlib.sha256(f"gpuferry grant {fence} of {lease}".encode()).digest()[:16]


@dataclass(frozen=True)
class ServerSide:
    """The server's answer to one hello, and the proof it then expects."""

    answer: bytes
    expected: bytes
    session: bytes


def answer_hello(hello: ClientHello, secret: bytes, specification: int, session: bytes) -> ServerSide:
    nonce = secrets.token_bytes(32)
    said = SERVER_HELLO.pack(MAGIC, PROTOCOL_VERSION, Refusal.NONE, specification, session, nonce, 0, 0)
    proof = prove(secret, b"gpuferry server", hello.raw, said)
    return ServerSide(said + proof, prove(secret, b"gpuferry client", hello.raw, said), session)


def refuse(refusal: Refusal, specification: int) -> bytes:
    """What a client that is turned away gets: the server's versions and the reason, no proof."""
    said = SERVER_HELLO.pack(MAGIC, PROTOCOL_VERSION, refusal, specification, bytes(16), bytes(32), 0, 0)
    return said + bytes(PROOF_SIZE)


def check_proof(side: ServerSide, proof: bytes) -> None:
    """Raises HandshakeError when the client does not know the secret."""
    if not hmac.compare_digest(side.expected, proof):
        raise HandshakeError(Refusal.BAD_PROOF, "the client does not know the lease's secret")


def introduce(
    connection: socket.socket, purpose: Purpose, specification: int, lease: bytes, secret: bytes, memory_mib: int = 0
) -> None:
    """The client's half, for the command line's own questions and for tests. Raises HandshakeError, OSError."""
    said_first = (MAGIC, PROTOCOL_VERSION, purpose, specification, lease, bytes(16), secrets.token_bytes(32), 0, 0)
    hello = CLIENT_HELLO.pack(*said_first, b"gpuferry", 1, 0, memory_mib)
    connection.sendall(hello)
    answer = receive_exactly(connection, SERVER_HELLO.size + PROOF_SIZE)
    magic, version, refusal, *_ = SERVER_HELLO.unpack(answer[: SERVER_HELLO.size])
    if magic != MAGIC:
        raise HandshakeError(Refusal.VERSION, "the peer is not a gpuferry GPU server")
    if refusal != Refusal.NONE:
        raise HandshakeError(
            Refusal(refusal), f"the server refused: {Refusal(refusal).name.lower()} (it speaks {version})"
        )
    said, proof = answer[: SERVER_HELLO.size], answer[SERVER_HELLO.size :]
    if not hmac.compare_digest(proof, prove(secret, b"gpuferry server", hello, said)):
        raise HandshakeError(Refusal.BAD_PROOF, "the server does not know the secret")
    connection.sendall(prove(secret, b"gpuferry client", hello, said))


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Raises ConnectionError when the peer closes first."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data
