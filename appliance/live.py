"""Leases as the deciding process keeps them in memory, and what is to be said once they are written.

An effect (`PrepareOrder`, `ClientNews`, …) is made while deciding and sent only after the
transaction it belongs to has been committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.placement import Shape
from appliance.pool import Share
from appliance.state.models import LeaseState, SliceState
from appliance.waiting import Member


@dataclass(slots=True, eq=False)
class LiveSlice:
    """A slice that is reserved; `fence` names the grant it belongs to."""

    id: str
    lease: str
    gpu: str
    server: str
    ordinal: int
    memory_mib: int
    compute: int
    fence: int
    state: SliceState = SliceState.RESERVED

    @property
    def share(self) -> Share:
        return Share(self.gpu, self.memory_mib, self.compute)


@dataclass(slots=True, eq=False)
class LiveLease:
    """A lease that is not over. Times are wall-clock seconds since 1970."""

    id: str
    member: Member
    request: str
    shape: Shape
    state: LeaseState
    queued_at: float
    priority: int = 0
    keeper: str = ""
    program: str = ""
    trace: str = ""
    timeout_s: float | None = None
    duration_s: float | None = None
    deadline: float | None = None
    granted_at: float | None = None
    expires_at: float | None = None
    ended_at: float | None = None
    fence: int = 0
    reason: str = ""
    position: int = 0
    slices: list[LiveSlice] = field(default_factory=list)
    last_used: float = 0.0
    warned_at: float | None = None

    def on(self, server: str) -> list[LiveSlice]:
        return [each for each in self.slices if each.server == server]

    @property
    def servers(self) -> list[str]:
        """Every server of the lease once, in the order in which the program numbers its GPUs."""
        return list(dict.fromkeys(each.server for each in self.slices))


@dataclass(frozen=True, slots=True)
class PrepareOrder:
    server: str
    lease: LiveLease
    fence: int


@dataclass(frozen=True, slots=True)
class ReleaseOrder:
    server: str
    lease: str
    fence: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClientNews:
    """`kind`: granted, queued, ended or notice."""

    kind: str
    lease: LiveLease
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportWanted:
    """The daemon is to say anew what it has and holds."""

    server: str


@dataclass(frozen=True, slots=True)
class DrainChanged:
    """The daemon is to know whether it is being taken out of service."""

    server: str


@dataclass(frozen=True, slots=True)
class UpgradeOrder:
    """`peer`: a server's daemon or a client's agent."""

    peer: str
    version: str


@dataclass(frozen=True, slots=True)
class RenewKeyOrder:
    """The server's daemon or the client's agent is to make a new key."""

    peer: str


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """The other processes of this machine are to take its new key."""

    peer: str


Effect = (
    PrepareOrder | ReleaseOrder | ClientNews | ReportWanted | DrainChanged | UpgradeOrder | RenewKeyOrder | KeyChanged
)
