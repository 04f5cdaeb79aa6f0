"""Every message of the control plane. Memory is MiB, times are seconds unless their name says otherwise.

A peer (a GPU server daemon or a client agent) speaks first: `Enrol` once in its life, then `Hello` on every new
connection and `Heartbeat` from then on. Orders carry the appliance's `epoch`; whoever has seen a higher one refuses
them. A `fence` names one grant of a lease: a lease that was placed again has a new fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from gpuserver.protocol.control.codec import message

SERVER, CLIENT = "server", "client"
"""The roles of peers."""
AGENT = "agent"
"""The instance name of a client VM's agent; other processes of the VM use a name of their own."""

# Enrolment


@message("enrol")
@dataclass(frozen=True)
class Enrol:
    """The first word of a peer, on the enrolment socket. Its CURVE key is the one that gets enrolled."""

    token: str
    role: str
    name: str
    hostname: str = ""
    version: str = ""


@message("enrolled")
@dataclass(frozen=True)
class Enrolled:
    """`id` is the peer's name in the inventory; `endpoints` are where it shall connect from now on."""

    id: str
    name: str
    endpoints: tuple[str, ...]


@message("refused")
@dataclass(frozen=True)
class Refused:
    """Something was not done. `code` is for programs, `reason` for people."""

    code: str
    reason: str


# Renewal of keys


@message("renew-key")
@dataclass(frozen=True)
class RenewKey:
    """Make a new CURVE key pair, and answer with its public half (`NextKey`)."""

    epoch: int


@message("next-key")
@dataclass(frozen=True)
class NextKey:
    """`key` (Z85) is mine from now on, beside the one in use. `problem`: why there is none."""

    key: str
    problem: str = ""


@message("key-taken")
@dataclass(frozen=True)
class KeyTaken:
    """The appliance lets `key` in: connect with it. The one before is worth nothing soon after that."""

    key: str


@message("key-renewed")
@dataclass(frozen=True)
class KeyRenewed:
    """This machine has another key now: read its identity again, and connect with that."""

    epoch: int


# Presence


@dataclass(frozen=True)
class HeldLease:
    """A grant that a daemon has prepared and not released."""

    lease: str
    fence: int


@dataclass(frozen=True)
class GpuRecord:
    """A GPU as its daemon finds it."""

    id: str
    ordinal: int
    name: str
    memory_mib: int
    multiprocessors: int = 0
    pci: str = ""


@message("hello")
@dataclass(frozen=True)
class Hello:
    """Who speaks on this connection. A daemon adds what it is, has and holds; a client which ESXi host it is on."""

    role: str
    instance: str
    """Distinguishes processes of one peer; a daemon's is new with every start."""
    version: str = ""
    hostname: str = ""
    host: str = ""
    address: str = ""
    has_rdma: bool = False
    cuda_version: str = ""
    driver_version: str = ""
    gpus: tuple[GpuRecord, ...] = ()
    held: tuple[HeldLease, ...] = ()
    kept: tuple[str, ...] = ()
    """Leases that this client process keeps."""


@message("welcome")
@dataclass(frozen=True)
class Welcome:
    """The answer to Hello. `leader`: this appliance process decides; requests go to it."""

    id: str
    epoch: int
    leader: bool
    heartbeat_s: float
    lost_after_s: float
    endpoints: tuple[str, ...]
    problems: tuple[str, ...] = ()


@message("report")
@dataclass(frozen=True)
class Report:
    """Say Hello again: the appliance has restarted, or doubts what it knows."""

    epoch: int


@dataclass(frozen=True)
class LeaseUse:
    """How a lease is used on one server: live sessions, and for how long none of them has used a GPU."""

    lease: str
    sessions: int
    idle_s: float
    memory_mib: int = 0
    calls: int = 0
    bytes: int = 0
    round_trips: int = 0


@message("heartbeat")
@dataclass(frozen=True)
class Heartbeat:
    """`clock` is the sender's wall clock, seconds since 1970; `use` only names leases with something new."""

    instance: str
    clock: float
    use: tuple[LeaseUse, ...] = ()


@message("beat")
@dataclass(frozen=True)
class Beat:
    """The answer to Heartbeat."""

    epoch: int
    leader: bool
    clock: float


@message("goodbye")
@dataclass(frozen=True)
class Goodbye:
    """This process ends in order: what it kept need not wait for its silence."""

    instance: str
    reason: str = ""


# Leases, towards daemons


@dataclass(frozen=True)
class SliceOrder:
    """`ordinal` is the number under which the program sees the GPU, counted over all servers of the lease."""

    gpu: str
    ordinal: int
    memory_mib: int
    compute: int = 0


@message("prepare")
@dataclass(frozen=True)
class Prepare:
    """Reserve these slices and accept sessions that prove `secret` (hex). Done twice it is done once."""

    lease: str
    fence: int
    epoch: int
    slices: tuple[SliceOrder, ...]
    secret: str
    client: str = ""
    trace: str = ""


@message("prepared")
@dataclass(frozen=True)
class Prepared:
    lease: str
    fence: int


@message("prepare-refused")
@dataclass(frozen=True)
class PrepareRefused:
    """`code`: no_memory, unknown_gpu, stale, stopping or failed. `gpu`: the one at fault, empty for all."""

    lease: str
    fence: int
    code: str
    reason: str
    gpu: str = ""


@message("release")
@dataclass(frozen=True)
class Release:
    """End every session of this grant and free its memory, then say Released. Unknown grants are released already."""

    lease: str
    fence: int
    epoch: int
    reason: str


@message("released")
@dataclass(frozen=True)
class Released:
    lease: str
    fence: int


@message("drain")
@dataclass(frozen=True)
class Drain:
    """No new sessions are coming; `active` False takes it back."""

    epoch: int
    active: bool
    deadline_s: float = 0.0


@message("upgrade")
@dataclass(frozen=True)
class Upgrade:
    """Install `version` and restart when nothing is held any more. `url`: where its bundle is, in pieces."""

    epoch: int
    version: str
    url: str = ""


@message("upgrade-answer")
@dataclass(frozen=True)
class UpgradeAnswer:
    version: str
    accepted: bool
    detail: str


# Leases, towards clients


@message("request")
@dataclass(frozen=True)
class RequestLease:
    """`request` is the client's own name for it; sent again, it finds the same lease. `timeout_s` 0: no limit."""

    request: str
    gpus: int
    instance: str
    memory_mib: Optional[int] = None
    fraction: Optional[float] = None
    compute: Optional[int] = None
    filters: tuple[str, ...] = ()
    timeout_s: float = 0.0
    duration_s: float = 0.0
    priority: int = 0
    program: str = ""
    trace: str = ""
    keeper: str = ""
    """Whose heartbeats keep the lease; empty: this process's."""
    one_server: bool = False
    """All slices on a single server."""


@message("queued")
@dataclass(frozen=True)
class Queued:
    request: str
    lease: str
    position: int
    reason: str


@dataclass(frozen=True)
class Grant:
    """The slices on one server: where it is, and the secret (hex) that proves the lease to it."""

    server: str
    name: str
    address: str
    secret: str
    slices: tuple[SliceOrder, ...]


@message("granted")
@dataclass(frozen=True)
class Granted:
    request: str
    lease: str
    fence: int
    grants: tuple[Grant, ...]
    expires_s: Optional[float] = None


@message("denied")
@dataclass(frozen=True)
class Denied:
    """The request will not be granted. `nearest` describes a request that would; `again_s`: asking again may help."""

    request: str
    code: str
    reason: str
    nearest: str = ""
    again_s: Optional[float] = None


@message("withdraw")
@dataclass(frozen=True)
class Withdraw:
    """Whatever became of this request of mine: I do not want it any more."""

    request: str


@message("release-lease")
@dataclass(frozen=True)
class ReleaseLease:
    lease: str
    reason: str = ""


@message("lease-ended")
@dataclass(frozen=True)
class LeaseEnded:
    request: str
    lease: str
    reason: str


@message("notice")
@dataclass(frozen=True)
class Notice:
    """Something will happen to a lease in `seconds`."""

    lease: str
    text: str
    seconds: float


@message("measured")
@dataclass(frozen=True)
class Measured:
    """What a client measured on its way to a server."""

    server: str
    round_trip_us: float
    bandwidth_mbps: Optional[float] = None
    mtu: Optional[int] = None
    rdma: bool = False


# Health and questions


@dataclass(frozen=True)
class Observation:
    """A measured fact, e.g. `gpu.temperature` of `GPU-…`: `value` as text. The appliance knows its threshold."""

    check: str
    value: str
    subject: str = ""


@message("observations")
@dataclass(frozen=True)
class Observations:
    instance: str
    observed: tuple[Observation, ...]


@message("observe")
@dataclass(frozen=True)
class Observe:
    """Measure now, and send Observations."""

    epoch: int


@message("ask")
@dataclass(frozen=True)
class Ask:
    """A client's question: `leases` (its own), `stats` (their use), `gpus`, `servers`, `health`."""

    question: str
    number: int


@message("answer")
@dataclass(frozen=True)
class Answer:
    number: int
    rows: tuple[dict[str, str], ...]
