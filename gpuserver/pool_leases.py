"""The leases of a server that belongs to a pool: the appliance gives them, this server checks and carries them.

`LeaseTable` refuses what would promise memory twice; here its grants become what sessions may use, and their end ends
the sessions. Orders come in the control link's threads, sessions in the daemon's event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from gpuserver.daemon import LeaseActivity
from gpuserver.lease_book import NoRoomError, Slice
from gpuserver.leases import LeaseRefusedError, LeaseTable
from gpuserver.protocol.control.messages import LeaseUse, Prepare
from gpuserver.protocol.handshake import ClientHello, lease_key

log = structlog.get_logger()


@dataclass(frozen=True)
class OfferedGpu:
    """A GPU that this server offers: its CUDA ordinal here, its memory in MiB, its multiprocessors."""

    uuid: str
    ordinal: int
    memory_mib: int
    multiprocessors: int
    name: str


@dataclass
class _Grant:
    order: Prepare
    secret: bytes
    slices: tuple[Slice, ...]
    sessions: int = 0
    used_at: float = 0.0  # monotonic: when its last session ended


class PoolLeases:
    """A LeaseBook. `end_sessions(lease key)` ends a lease's sessions and returns when their memory is free."""

    def __init__(self, gpus: Mapping[str, OfferedGpu], end_sessions: Callable[[bytes], None]) -> None:
        self.gpus = dict(gpus)
        self.table = LeaseTable(
            {gpu.uuid: gpu.memory_mib for gpu in gpus.values()}, begin=self._begin, finish=self._finish
        )
        self._end_sessions = end_sessions
        self._grants: dict[bytes, _Grant] = {}
        self._keys: dict[str, bytes] = {}
        self._activity: dict[bytes, LeaseActivity] = {}
        self._lock = threading.Lock()

    # What the appliance orders

    def _begin(self, order: Prepare) -> None:
        try:
            secret = bytes.fromhex(order.secret)
        except ValueError as wrong:
            raise LeaseRefusedError("failed", f"the secret of {order.lease} is not hexadecimal") from wrong
        if len(secret) < 16:
            raise LeaseRefusedError("failed", f"the secret of {order.lease} is shorter than 16 bytes")
        key = lease_key(order.lease, order.fence)
        slices = tuple(
            self._slice(each.gpu, each.memory_mib, each.compute)
            for each in sorted(order.slices, key=lambda each: each.ordinal)
        )
        with self._lock:
            self._grants[key] = _Grant(order, secret, slices, used_at=time.monotonic())
            self._keys[order.lease] = key
        log.info("lease prepared", lease=order.lease, fence=order.fence, client=order.client, trace=order.trace)

    def _slice(self, uuid: str, memory_mib: int, compute: int) -> Slice:
        gpu = self.gpus[uuid]
        # Who has the whole GPU is limited by the GPU alone.
        return Slice(gpu.ordinal, 0 if memory_mib >= gpu.memory_mib else memory_mib, uuid, compute)

    def _finish(self, lease: str) -> None:
        with self._lock:
            key = self._keys.pop(lease)
            grant = self._grants.pop(key)
        self._end_sessions(key)
        log.info("lease released", lease=lease, fence=grant.order.fence, trace=grant.order.trace)

    def note_activity(self, activity: Mapping[bytes, LeaseActivity]) -> None:
        """What the daemon counts now; what it does not name has no session."""
        with self._lock:
            self._activity = dict(activity)

    def use(self) -> tuple[LeaseUse, ...]:
        """How each lease is used, as far as it was noted last."""
        with self._lock:
            return tuple(self._use(key, grant) for key, grant in self._grants.items())

    def _use(self, key: bytes, grant: _Grant) -> LeaseUse:
        lease, known = grant.order.lease, self._activity.get(key)
        if known is None:
            idle_s = 0.0 if grant.sessions else time.monotonic() - grant.used_at
            return LeaseUse(lease, grant.sessions, idle_s)
        cost = known.cost
        return LeaseUse(
            lease=lease,
            sessions=known.sessions,
            idle_s=known.idle_s,
            memory_mib=known.memory_mib,
            calls=cost.calls,
            bytes=cost.bytes_in + cost.bytes_out,
            round_trips=cost.round_trips,
        )

    def leased_mib(self) -> dict[str, int]:
        """GPU → MiB promised to leases."""
        return {uuid: self.table.used_mib(uuid) for uuid in self.gpus}

    # What sessions ask

    def _find(self, lease: bytes) -> _Grant | None:
        with self._lock:
            return self._grants.get(lease)

    def secret_of(self, lease: bytes) -> bytes | None:
        grant = self._find(lease)
        return grant.secret if grant else None

    def open_session(self, hello: ClientHello) -> tuple[Slice, ...]:
        with self._lock:
            grant = self._grants.get(hello.lease)
            if grant is None:
                raise NoRoomError("the lease is over")
            grant.sessions += 1
            return grant.slices

    def close_session(self, hello: ClientHello) -> None:
        with self._lock:
            grant = self._grants.get(hello.lease)
            if grant is not None:
                grant.sessions -= 1
                grant.used_at = time.monotonic()

    def visible_to(self, lease: bytes) -> tuple[Slice, ...] | None:
        grant = self._find(lease)
        return grant.slices if grant else ()
