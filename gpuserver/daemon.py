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
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gpuserver.account import AccountFullError, Cost, History, SliceAccount
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
    """How a worker is started: its program, and the CUDA driver and the NVML that it is to load."""

    program: Path
    driver: str
    environment: dict[str, str] = field(default_factory=dict)
    nvml: str = "libnvidia-ml.so.1"


@dataclass
class SessionRecord:
    """One session from the moment it is let in. `doomed`: its lease ended before its worker had started."""

    session: bytes
    hello: ClientHello
    slices: tuple[Slice, ...]
    peer: str
    slot: int = 0
    worker: asyncio.subprocess.Process | None = None
    doomed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        self.doomed = True
        if self.worker is not None and self.worker.returncode is None:
            self.worker.kill()


@dataclass
class LeaseState:
    """A lease while it is in use here. `uses` counts sessions, and processes that only read NVML."""

    account: SliceAccount
    uses: int = 0
    calls_seen: int = 0
    active_at: float = 0.0  # monotonic seconds


@dataclass(frozen=True)
class LeaseActivity:
    """What a lease does on this server: its live sessions, MiB in use, what it has cost, and for how long it did
    nothing (in seconds, as exact as the caller asks often)."""

    sessions: int
    memory_mib: int
    cost: Cost
    idle_s: float


@dataclass
class Daemon:
    """`specification` is the digest that both ends' C++ was generated from."""

    leases: LeaseBook
    worker: WorkerCommand
    specification: int
    inventory: Callable[[], list[dict[str, object]]]
    sessions: dict[bytes, SessionRecord] = field(default_factory=dict)
    readers: dict[bytes, SessionRecord] = field(default_factory=dict)
    lease_states: dict[bytes, LeaseState] = field(default_factory=dict)
    history: History = field(default_factory=History)
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
            elif hello.purpose in (Purpose.SESSION, Purpose.NVML):
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
        content = {
            "gpus": gpus,
            "sessions": [self._described(record) for record in sessions],
            "programs": self._programs() if own is None else {},
        }
        text = json.dumps(content).encode()
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(connection, struct.pack("<I", len(text)) + text)

    async def end_sessions(self, lease: bytes) -> None:
        """Kill the workers of a lease; returns when they are gone, and with them all they held of the GPUs.

        The lease must be out of the book already, so that no new session comes.
        """
        every = [*self.sessions.values(), *self.readers.values()]
        ending = [record for record in every if record.hello.lease == lease]
        for record in ending:
            record.kill()
        for record in ending:
            await record.over.wait()

    async def _run_session(self, connection: socket.socket, hello: ClientHello, session: bytes, peer: str) -> None:
        """A session's worker, or one that reads NVML for a client process, from its start to its end."""
        try:
            slices = self.leases.open_session(hello)
        except NoRoomError as error:
            log.warning("session refused", peer=peer, reason=str(error))
            await _turn_away(connection, f"{error}: ask for less, or wait")
            return
        record = SessionRecord(session, hello, slices, peer)
        known = self.readers if hello.purpose is Purpose.NVML else self.sessions
        known[session] = record
        state = self._open_lease(hello.lease)
        try:
            if hello.purpose is Purpose.NVML:
                await self._accompany_reader(connection, record)
            else:
                await self._accompany(connection, record, state.account)
        except AccountFullError as error:
            log.warning("session refused", peer=peer, reason=str(error))
            await _turn_away(connection, f"{error}: end some of its programs")
        except OSError as error:
            log.error("worker not started", program=str(self.worker.program), reason=str(error))
            await _turn_away(connection, "its worker could not be started; its log says why")
        finally:
            del known[session]
            self._close_lease(hello.lease)
            self.leases.close_session(hello)
            record.over.set()

    async def _accompany(self, connection: socket.socket, record: SessionRecord, account: SliceAccount) -> None:
        """From the start of a session's worker to its end. Raises AccountFullError, OSError."""
        hello, peer = record.hello, record.peer
        record.slot = account.open_slot()
        try:
            worker = record.worker = await self._start_worker(connection, record.slices, account, record.slot)
            connection.close()  # the worker's own copy is the only one now: its end is the connection's end
            if record.doomed:
                record.kill()
            log.info("session began", peer=peer, program=hello.program, process=hello.process, worker=worker.pid)
            status = await worker.wait()
        finally:
            cost = account.close_slot(record.slot)
        self.history.add(hello.program, cost)
        log.info("session ended", peer=peer, program=hello.program, worker=worker.pid, status=status, **cost.as_dict())

    async def _accompany_reader(self, connection: socket.socket, record: SessionRecord) -> None:
        """From the start of a worker that reads NVML for a client process to its end. Raises OSError."""
        environment = {**os.environ, **self.worker.environment}
        gpus = ",".join(f"{each.uuid or each.ordinal}:{each.memory_mib}" for each in record.slices)
        arguments = ["--nvml", self.worker.nvml, "--gpus", gpus]
        worker = record.worker = await self._execute(connection, arguments, environment)
        connection.close()
        if record.doomed:
            record.kill()
        await worker.wait()

    async def _start_worker(
        self, connection: socket.socket, slices: tuple[Slice, ...], account: SliceAccount, slot: int
    ) -> asyncio.subprocess.Process:
        environment = {**os.environ, **self.worker.environment}
        # A UUID means the same GPU to CUDA and to NVML; their ordinals need not agree.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(each.uuid or str(each.ordinal) for each in slices)
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # NVML's order
        shares = [each.compute for each in slices if each.compute]
        if shares:  # where MPS runs on the server; it knows one share for a process, whatever the device
            environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, min(shares) // 10))
        arguments = [
            *("--driver", self.worker.driver),
            *("--memory-mib", ",".join(str(each.memory_mib) for each in slices)),
            *("--account", str(account.descriptor)),
            *("--slot", str(slot)),
        ]
        return await self._execute(connection, arguments, environment, account.descriptor)

    async def _execute(
        self, connection: socket.socket, arguments: list[str], environment: dict[str, str], *descriptors: int
    ) -> asyncio.subprocess.Process:
        """Start the worker's program with the connection and these descriptors. Raises OSError."""
        connection.setblocking(True)
        return await asyncio.create_subprocess_exec(
            str(self.worker.program),
            *("--socket", str(connection.fileno())),
            *arguments,
            pass_fds=(connection.fileno(), *descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
        )

    def _open_lease(self, lease: bytes) -> LeaseState:
        state = self.lease_states.get(lease)
        if state is None:
            state = self.lease_states[lease] = LeaseState(SliceAccount(), active_at=time.monotonic())
        state.uses += 1
        return state

    def _close_lease(self, lease: bytes) -> None:
        state = self.lease_states[lease]
        state.uses -= 1
        if state.uses == 0:
            del self.lease_states[lease]
            state.account.close()

    def lease_activity(self) -> dict[bytes, LeaseActivity]:
        """The leases in use here, by their ids. A lease whose last session has ended is not among them."""
        now = time.monotonic()
        found = {}
        for lease, state in self.lease_states.items():
            cost = state.account.total_cost()
            if cost.calls != state.calls_seen:
                state.calls_seen, state.active_at = cost.calls, now
            used = sum(state.account.total_used()) >> 20
            found[lease] = LeaseActivity(state.account.sessions, used, cost, now - state.active_at)
        return found

    def _programs(self) -> dict[str, dict[str, int]]:
        """What sessions have cost since the daemon's start, by program: those that ended and those that live."""
        living = History()
        for record in self.sessions.values():
            living.add(record.hello.program, self.lease_states[record.hello.lease].account.cost(record.slot))
        return self.history.joined(living)

    def _described(self, record: SessionRecord) -> dict[str, object]:
        account = self.lease_states[record.hello.lease].account
        used = account.used(record.slot)
        return {
            "program": record.hello.program,
            "process": record.hello.process,
            "peer": record.peer,
            "lease": record.hello.lease.hex(),
            "worker": record.worker.pid if record.worker else 0,
            "gpus": [
                {"ordinal": s.ordinal, "memory_mib": s.memory_mib, "used_mib": used[i] >> 20}
                for i, s in enumerate(record.slices)
            ],
            "cost": account.cost(record.slot).as_dict(),
        }


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
