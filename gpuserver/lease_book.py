"""What the daemon asks of whoever knows the leases: may this session come, and on which slices.

`StaticLeases` answers on a server alone, `PoolLeases` on a server whose leases the appliance gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpuserver.protocol.handshake import ClientHello


class NoRoomError(RuntimeError):
    """There is no GPU memory for this session; the message says why, and what would fit."""


@dataclass(frozen=True)
class Slice:
    """A share of one GPU: its ordinal on this server, MiB of its memory (0: the whole GPU), its UUID where known, and
    thousandths of its multiprocessors (0: no share was asked for)."""

    ordinal: int
    memory_mib: int
    uuid: str = ""
    compute: int = 0


class LeaseBook(Protocol):
    """Where the daemon looks leases up. Called in the daemon's event loop."""

    def secret_of(self, lease: bytes) -> bytes | None:
        """The secret of a lease, None when there is no such lease here."""

    def open_session(self, hello: ClientHello) -> tuple[Slice, ...]:
        """The slices of a new session, in the order in which its program numbers them. Raises NoRoomError."""

    def close_session(self, hello: ClientHello) -> None:
        """A session of this lease has ended."""

    def visible_to(self, lease: bytes) -> tuple[Slice, ...] | None:
        """What an inventory shows the holder of this lease; None: everything."""
