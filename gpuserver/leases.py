"""The grants a GPU server holds, and its own refusal to promise a GPU's memory twice.

The appliance decides; the daemon checks. A grant is taken in only when its slices fit beside those already held and its
fence is not one that was released or overtaken before. `begin` and `finish` start and end it on the data plane.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from gpuserver.protocol.control.messages import HeldLease, Prepare

REMEMBERED = 100_000
"""How many ended leases' fences are kept, so that an order that comes late cannot revive one."""


class LeaseRefusedError(RuntimeError):
    """A grant this server does not take. `code`: no_memory, unknown_gpu, stale, stopping or failed."""

    def __init__(self, code: str, reason: str, gpu: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.gpu = gpu


class LeaseTable:
    """`capacity`: GPU → MiB. `begin(order)` may raise LeaseRefusedError; `finish(lease)` returns with memory free."""

    def __init__(
        self,
        capacity: Mapping[str, int],
        begin: Callable[[Prepare], None] = lambda order: None,
        finish: Callable[[str], None] = lambda lease: None,
        release_wait_s: float = 4.0,
    ) -> None:
        self.capacity = dict(capacity)
        self._begin = begin
        self._finish = finish
        self._release_wait_s = release_wait_s
        self._grants: dict[str, Prepare] = {}
        self._ending: set[str] = set()
        self._released: OrderedDict[str, int] = OrderedDict()
        self._changed = threading.Condition()

    def held(self) -> tuple[HeldLease, ...]:
        with self._changed:
            return tuple(HeldLease(order.lease, order.fence) for order in self._grants.values())

    def grant(self, lease: str) -> Prepare | None:
        """The grant under which sessions of a lease may come, None when there is none."""
        with self._changed:
            return None if lease in self._ending else self._grants.get(lease)

    def used_mib(self, gpu: str) -> int:
        with self._changed:
            return self._used_mib(gpu)

    def _used_mib(self, gpu: str) -> int:
        return sum(each.memory_mib for order in self._grants.values() for each in order.slices if each.gpu == gpu)

    def prepare(self, order: Prepare) -> None:
        """Take a grant in; taking it in again does nothing. Raises LeaseRefusedError."""
        with self._changed:
            known = self._grants.get(order.lease)
            if known is not None and known.fence == order.fence and order.lease not in self._ending:
                return
            if order.fence <= self._released.get(order.lease, 0) or (known and known.fence >= order.fence):
                raise LeaseRefusedError("stale", f"fence {order.fence} of {order.lease} is over")
            if known is not None:
                raise LeaseRefusedError("failed", f"{order.lease} is still held under fence {known.fence}")
            for each in order.slices:
                if each.gpu not in self.capacity:
                    raise LeaseRefusedError("unknown_gpu", f"there is no {each.gpu} here", each.gpu)
            self._changed.wait_for(lambda: self._fits(order) or not self._ending, self._release_wait_s)
            for each in order.slices:
                left = self.capacity[each.gpu] - self._used_mib(each.gpu)
                if each.memory_mib > left:
                    raise LeaseRefusedError("no_memory", f"{each.memory_mib} MiB wanted, {left} MiB free", each.gpu)
            self._grants[order.lease] = order
        try:
            self._begin(order)
        except BaseException:
            with self._changed:
                self._grants.pop(order.lease, None)
                self._changed.notify_all()
            raise

    def _fits(self, order: Prepare) -> bool:
        return all(each.memory_mib <= self.capacity[each.gpu] - self._used_mib(each.gpu) for each in order.slices)

    def release(self, lease: str, fence: int) -> None:
        """End a grant; returns when nothing of it is left. What is not held is released already."""
        with self._changed:
            self._remember(lease, fence)
            known = self._grants.get(lease)
            if known is None or known.fence > fence or lease in self._ending:
                return
            self._ending.add(lease)
        try:
            self._finish(lease)
        finally:
            with self._changed:
                self._ending.discard(lease)
                self._grants.pop(lease, None)
                self._changed.notify_all()

    def _remember(self, lease: str, fence: int) -> None:
        self._released[lease] = max(fence, self._released.pop(lease, 0))
        while len(self._released) > REMEMBERED:
            self._released.popitem(last=False)
