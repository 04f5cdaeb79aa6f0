"""The GPU server daemon's end of the control plane: reports what it has and holds, carries out the appliance's orders.

    host = ...                       # a LeaseHost: what the data plane does when a lease comes and goes
    control = ServerControl(load_identity(path), host)
    control.start() ... control.stop()

Orders of one lease are carried out in the order in which they came, those of different leases side by side.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpuserver.leases import LeaseRefusedError
from gpuserver.protocol.control import messages, upgrading
from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.curve import Identity
from gpuserver.protocol.control.link import ControlLink
from gpuserver.protocol.control.messages import GpuRecord, HeldLease, LeaseUse, Observation, Prepare, Release
from gpuserver.protocol.control.path import PORT, PathResponder

log = logging.getLogger(__name__)
OBSERVE_EVERY_S = 10.0
BUSY_S = 60.0


@dataclass(frozen=True)
class Inventory:
    """What a GPU server is. `address` is where the data plane listens, `host:port`."""

    address: str
    gpus: tuple[GpuRecord, ...]
    hostname: str = ""
    host: str = ""
    has_rdma: bool = False
    cuda_version: str = ""
    driver_version: str = ""
    version: str = ""


class LeaseHost(Protocol):
    """What the daemon does with leases. Called from several threads; `prepare` and `release` may take seconds."""

    def inventory(self) -> Inventory: ...

    def held(self) -> tuple[HeldLease, ...]:
        """Every grant that is prepared and not yet wholly released."""
        ...

    def prepare(self, order: Prepare) -> None:
        """Reserve the slices and accept sessions that prove `order.secret`. Idempotent. Raises LeaseRefusedError."""
        ...

    def release(self, lease: str, fence: int, reason: str) -> None:
        """End the grant's sessions; returns when its memory is free. Idempotent."""
        ...

    def use(self) -> tuple[LeaseUse, ...]:
        """How held leases are used."""
        ...

    def observe(self) -> tuple[Observation, ...]:
        """Measured facts for the health checks."""
        ...

    def drain(self, active: bool, deadline_s: float) -> None:
        """The server is being taken out of service, or put back."""
        ...

    def upgrade(self, version: str) -> str:
        """Arrange for `version` to be installed; returns what will happen. Raises UpgradeRefusedError."""
        ...


@dataclass
class _Orders:
    """Orders waiting per lease."""

    waiting: dict[str, deque[Callable[[], None]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ServerControl:
    """Joins a LeaseHost to the appliance. `path_port`: where `gpuferry netperf` measures; None: nowhere."""

    def __init__(self, identity: Identity, host: LeaseHost, path_port: int | None = PORT) -> None:
        self.host = host
        self._path_port = path_port
        self._responder: PathResponder | None = None
        self.instance = secrets.token_hex(8)
        self.problems: tuple[str, ...] = ()
        """What the appliance found wrong with this server's inventory."""
        self.link = ControlLink(identity, self.instance, self._hello, self._receive, self._heartbeat)
        self._orders = _Orders()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="lease-order")
        self._observed_at = 0.0
        self._last_use: dict[str, LeaseUse] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        if self._path_port is not None:
            try:
                self._responder = PathResponder(port=self._path_port)
            except OSError as taken:
                log.warning(
                    "gpuferry netperf cannot measure the way to this server: port %d: %s", self._path_port, taken
                )
        self.link.start()

    def stop(self) -> None:
        """Leave in order. Leases stay with the host; the appliance ends those of a server that stays away."""
        self._stopping.set()
        if self._responder is not None:
            self._responder.close()
        self.link.stop("the daemon stops")
        self._pool.shutdown(cancel_futures=True)

    def _hello(self) -> messages.Hello:
        what = self.host.inventory()
        return messages.Hello(
            role=messages.SERVER,
            instance=self.instance,
            version=what.version,
            hostname=printable(what.hostname),
            host=printable(what.host),
            address=what.address,
            has_rdma=what.has_rdma,
            cuda_version=what.cuda_version,
            driver_version=what.driver_version,
            gpus=what.gpus,
            held=self.host.held(),
        )

    def _heartbeat(self) -> messages.Heartbeat:
        if time.monotonic() - self._observed_at > OBSERVE_EVERY_S:
            self._observed_at = time.monotonic()
            self._pool.submit(self._observe)
        upgrading.say_result(self.link.send)
        # What lies idle and has not changed need not be said again; the appliance counts on from the last word.
        use = tuple(each for each in self.host.use() if each.idle_s < BUSY_S or self._last_use.get(each.lease) != each)
        self._last_use.update((each.lease, each) for each in use)
        return messages.Heartbeat(self.instance, time.time(), use)

    def _observe(self) -> None:
        try:
            self.link.send(messages.Observations(self.instance, self.host.observe()))
        except Exception:
            log.exception("the health of this server could not be measured")

    def _receive(self, content: Any, reply: Callable[[Any], bool]) -> None:
        if isinstance(content, messages.Welcome):
            if content.problems != self.problems:
                for problem in content.problems:
                    log.error("the appliance rejects a GPU of this server: %s", problem)
            self.problems = content.problems
        elif isinstance(content, messages.Refused):
            log.error("the appliance refuses this server: %s", content.reason)
        elif getattr(content, "epoch", self.link.epoch) < self.link.epoch:
            log.warning("an order of epoch %d was ignored: %d decides now", content.epoch, self.link.epoch)
        elif isinstance(content, Prepare):
            self._queue(content.lease, lambda: self._prepare(content))
        elif isinstance(content, Release):
            self._queue(content.lease, lambda: self._release(content))
        elif isinstance(content, messages.Drain):
            self.host.drain(content.active, content.deadline_s)
        elif isinstance(content, messages.Observe):
            self._pool.submit(self._observe)
        elif isinstance(content, messages.Upgrade):
            # A thread of its own: it may wait as long as the longest lease.
            held = (lambda: len(self.host.held()), self.host.upgrade)
            arguments = (content, self.link.send, self._stopping, *held)
            threading.Thread(target=upgrading.carry_out, args=arguments, name="upgrade", daemon=True).start()

    def _queue(self, lease: str, order: Callable[[], None]) -> None:
        with self._orders.lock:
            waiting = self._orders.waiting.get(lease)
            if waiting is not None:
                waiting.append(order)
                return
            self._orders.waiting[lease] = deque([order])
        self._pool.submit(self._carry_out, lease)

    def _carry_out(self, lease: str) -> None:
        while True:
            with self._orders.lock:
                waiting = self._orders.waiting[lease]
                if not waiting:
                    del self._orders.waiting[lease]
                    return
                order = waiting.popleft()
            try:
                order()
            except Exception:
                log.exception("an order about %s failed", lease)

    def _prepare(self, order: Prepare) -> None:
        try:
            self.host.prepare(order)
        except LeaseRefusedError as refused:
            answer = messages.PrepareRefused(
                order.lease, order.fence, refused.code, printable(refused.reason), refused.gpu
            )
        except Exception as failure:
            log.exception("%s could not be prepared", order.lease)
            answer = messages.PrepareRefused(order.lease, order.fence, "failed", printable(str(failure)))
        else:
            self.link.send(messages.Prepared(order.lease, order.fence))
            return
        self.link.send(answer)

    def _release(self, order: Release) -> None:
        self.host.release(order.lease, order.fence, order.reason)
        self._last_use.pop(order.lease, None)
        self.link.send(messages.Released(order.lease, order.fence))
