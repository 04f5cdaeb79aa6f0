"""The GPU server daemon: listens, checks the handshake, gives each session a worker process, and reaps it.

The daemon itself opens no GPU and reads of a stranger only messages of fixed size; what comes after the proof is read
by the session's own worker, whose end frees all that the session held.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gpuserver.lease_book import LeaseBook, NoRoomError, Slice
from gpuserver.protocol.handshake import (
    CLIENT_HELLO,
    PROOF_SIZE,
    PROTOCOL_VERSION,
    ClientHello,
    HandshakeError,
    Purpose,
    Refusal,
    answer_hello,
    check_proof,
    read_client_hello,
    refuse,
)

log = structlog.get_logger()
HANDSHAKE_SECONDS = 10.0
MOST_STRANGERS = 256
REQUEST_HEADER = struct.Struct("<IHHQQ")  # wire.h
REPLY_HEADER = struct.Struct("<QIiiHH")
DEVICE_UNAVAILABLE = 46  # CUDA_ERROR_DEVICE_UNAVAILABLE


@dataclass(frozen=True)
class WorkerCommand:
    """How a worker is started: its program and the CUDA driver that it is to load."""

    program: Path
    driver: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class SessionRecord:
    """One session from the moment it is let in. `doomed`: its lease ended before its worker had started."""

    session: bytes
    hello: ClientHello
    slices: tuple[Slice, ...]
    peer: str
    worker: asyncio.subprocess.Process | None = None
    doomed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        self.doomed = True
        if self.worker is not None and self.worker.returncode is None:
            self.worker.kill()


@dataclass
class Daemon:
    """`specification` is the digest that both ends' C++ was generated from."""

    leases: LeaseBook
    worker: WorkerCommand
    specification: int
    inventory: Callable[[], list[dict[str, object]]]
    sessions: dict[bytes, SessionRecord] = field(default_factory=dict)
    strangers: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            connection.setblocking(False)
            if self.strangers >= MOST_STRANGERS:
                connection.close()
                continue
            task = asyncio.create_task(self._welcome(connection, _shown(address)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _welcome(self, connection: socket.socket, peer: str) -> None:
        """One connection, from its first byte to the end of its session."""
        with connection:
            self.strangers += 1
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    hello, session = await self._shake_hands(connection)
            except (HandshakeError, OSError, TimeoutError, EOFError) as error:
                log.warning("connection refused", peer=peer, reason=str(error) or type(error).__name__)
                return
            finally:
                self.strangers -= 1
            if hello.purpose is Purpose.INVENTORY:
                await self._send_inventory(connection, hello)
            elif hello.purpose is Purpose.SESSION:
                await self._run_session(connection, hello, session, peer)

    async def _shake_hands(self, connection: socket.socket) -> tuple[ClientHello, bytes]:
        loop = asyncio.get_running_loop()
        hello = read_client_hello(await _receive(connection, CLIENT_HELLO.size))
        refusal = self._examine(hello)
        if refusal is not Refusal.NONE:
            await loop.sock_sendall(connection, refuse(refusal, self.specification))
            raise HandshakeError(
                refusal, f"{refusal.name.lower()}: protocol {hello.version}/{hello.specification:016x}"
            )
        secret = self.leases.secret_of(hello.lease)
        if secret is None:  # ended since it was examined
            raise HandshakeError(Refusal.UNKNOWN_LEASE, "the lease has just ended")
        session = secrets.token_bytes(16)
        side = answer_hello(hello, secret, self.specification, session)
        await loop.sock_sendall(connection, side.answer)
        check_proof(side, await _receive(connection, PROOF_SIZE))
        return hello, session

    def _examine(self, hello: ClientHello) -> Refusal:
        if hello.version != PROTOCOL_VERSION:
            return Refusal.VERSION
        # The command line's own questions do not depend on the driver API.
        if hello.purpose is not Purpose.INVENTORY and hello.specification != self.specification:
            return Refusal.VERSION
        if self.leases.secret_of(hello.lease) is None:
            return Refusal.UNKNOWN_LEASE
        return Refusal.NONE

    async def _send_inventory(self, connection: socket.socket, hello: ClientHello) -> None:
        gpus, sessions = self.inventory(), list(self.sessions.values())
        own = self.leases.visible_to(hello.lease)
        if own is not None:
            ordinals = {each.ordinal for each in own}
            gpus = [gpu for gpu in gpus if gpu["ordinal"] in ordinals]
            sessions = [record for record in sessions if record.hello.lease == hello.lease]
        text = json.dumps({"gpus": gpus, "sessions": [_described(record) for record in sessions]}).encode()
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(connection, struct.pack("<I", len(text)) + text)

    async def end_sessions(self, lease: bytes) -> None:
        """Kill the workers of a lease; returns when they are gone, and with them all they held of the GPUs.

        The lease must be out of the book already, so that no new session comes.
        """
        ending = [record for record in self.sessions.values() if record.hello.lease == lease]
        for record in ending:
            record.kill()
        for record in ending:
            await record.over.wait()

    async def _run_session(self, connection: socket.socket, hello: ClientHello, session: bytes, peer: str) -> None:
        try:
            slices = self.leases.open_session(hello)
        except NoRoomError as error:
            log.warning("session refused", peer=peer, reason=str(error))
            await _turn_away(connection, f"{error}: ask for less, or wait")
            return
        record = self.sessions[session] = SessionRecord(session, hello, slices, peer)
        try:
            await self._accompany(connection, record)
        finally:
            del self.sessions[session]
            self.leases.close_session(hello)
            record.over.set()

    async def _accompany(self, connection: socket.socket, record: SessionRecord) -> None:
        """From the start of a session's worker to its end."""
        hello, peer = record.hello, record.peer
        try:
            worker = record.worker = await self._start_worker(connection, record.slices)
        except OSError as error:
            log.error("worker not started", program=str(self.worker.program), reason=str(error))
            await _turn_away(connection, "its worker could not be started; its log says why")
            return
        connection.close()  # the worker's own copy is the only one now: its end is the connection's end
        if record.doomed:
            record.kill()
        log.info("session began", peer=peer, program=hello.program, process=hello.process, worker=worker.pid)
        status = await worker.wait()
        log.info("session ended", peer=peer, program=hello.program, worker=worker.pid, status=status)

    async def _start_worker(self, connection: socket.socket, slices: tuple[Slice, ...]) -> asyncio.subprocess.Process:
        connection.setblocking(True)
        environment = {**os.environ, **self.worker.environment}
        # A UUID means the same GPU to CUDA and to NVML; their ordinals need not agree.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(each.uuid or str(each.ordinal) for each in slices)
        shares = [each.compute for each in slices if each.compute]
        if shares:  # where MPS runs on the server; it knows one share for a process, whatever the device
            environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, min(shares) // 10))
        return await asyncio.create_subprocess_exec(
            str(self.worker.program),
            *("--socket", str(connection.fileno())),
            *("--driver", self.worker.driver),
            *("--memory-mib", ",".join(str(each.memory_mib) for each in slices)),
            pass_fds=(connection.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
        )


async def _turn_away(connection: socket.socket, reason: str) -> None:
    """Answer the client's first request, which is on its way already, in the worker's stead."""
    text = reason.encode()
    text = struct.pack("<Q", len(text)) + text + bytes(-len(text) % 8)
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            connection.setblocking(False)
            request = REQUEST_HEADER.unpack(await _receive(connection, REQUEST_HEADER.size))
            answer = REPLY_HEADER.pack(request[3], len(text), DEVICE_UNAVAILABLE, 0, 0, 0)
            await asyncio.get_running_loop().sock_sendall(connection, answer + text)


def _described(record: SessionRecord) -> dict[str, object]:
    return {
        "program": record.hello.program,
        "process": record.hello.process,
        "peer": record.peer,
        "worker": record.worker.pid if record.worker else 0,
        "gpus": [{"ordinal": s.ordinal, "memory_mib": s.memory_mib} for s in record.slices],
    }


def _shown(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "local"


async def _receive(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(connection, size - len(data))
        if not part:
            raise EOFError("the peer closed the connection during the handshake")
        data += part
    return data
