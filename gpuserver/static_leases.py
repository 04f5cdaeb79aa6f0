"""Who may use which GPUs of a server that stands alone, and how much of them.

On a server without an appliance leases come from the clients' own wishes under the server's one shared secret: this
module counts what is handed out, so that slices never overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpuserver.lease_book import NoRoomError, Slice
from gpuserver.protocol.handshake import ClientHello


@dataclass
class GpuAccount:
    total_mib: int
    given_mib: int = 0


@dataclass
class _StaticLease:
    slices: tuple[Slice, ...]
    sessions: int = 0


@dataclass
class StaticLeases:
    """A server without an appliance: whoever knows the secret gets what there is, first come, first served.

    All processes of one `gpuferry run` carry the same lease id and share its slices.
    """

    secret: bytes
    read_totals: Callable[[], Sequence[int]]  # MiB of each GPU
    accounts: list[GpuAccount] = field(default_factory=list)
    leases: dict[bytes, _StaticLease] = field(default_factory=dict)

    def secret_of(self, lease: bytes) -> bytes | None:
        return self.secret

    def open_session(self, hello: ClientHello) -> tuple[Slice, ...]:
        if not self.accounts:
            self.accounts = [GpuAccount(total) for total in self.read_totals()]
        lease = self.leases.get(hello.lease)
        if lease is None:
            lease = _StaticLease(self._place(max(1, hello.wanted_devices), hello.wanted_memory_mib))
            self.leases[hello.lease] = lease
        lease.sessions += 1
        return lease.slices

    def close_session(self, hello: ClientHello) -> None:
        lease = self.leases.get(hello.lease)
        if lease is None:
            return
        lease.sessions -= 1
        if lease.sessions == 0:
            del self.leases[hello.lease]
            for part in lease.slices:
                account = self.accounts[part.ordinal]
                account.given_mib -= part.memory_mib or account.total_mib

    def visible_to(self, lease: bytes) -> tuple[Slice, ...] | None:
        return None

    def _place(self, count: int, memory_mib: int) -> tuple[Slice, ...]:
        """The GPUs with most memory left; a wish for a whole GPU (0) needs one that nobody uses."""

        def room(account: GpuAccount) -> int:
            return account.total_mib - account.given_mib

        order = sorted(range(len(self.accounts)), key=lambda i: -room(self.accounts[i]))
        chosen = [i for i in order if room(self.accounts[i]) >= (memory_mib or self.accounts[i].total_mib)][:count]
        if len(chosen) < count:
            best = max((room(a) for a in self.accounts), default=0)
            raise NoRoomError(
                f"asked for {count} GPU(s) with {memory_mib or 'all'} MiB each; {len(self.accounts)} GPU(s) here, "
                f"the most free one has {best} MiB left"
            )
        for i in chosen:
            self.accounts[i].given_mib += memory_mib or self.accounts[i].total_mib
        return tuple(Slice(i, memory_mib) for i in sorted(chosen))
