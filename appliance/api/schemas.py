"""The documents of the API. Memory is MiB, compute thousandths of a GPU's multiprocessors, times are UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from appliance.state.models import GpuState, LeaseState, RunState, ServerState, SliceState, StepState
from vcenter.session import Endpoint


def printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters, please")
    return text


def named(text: str) -> str:
    if not text.strip():
        raise ValueError("a name is not empty")
    return printable(text)


Text = Annotated[str, Field(max_length=500), AfterValidator(printable)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(named)]
Quota = Annotated[int | None, Field(ge=0, le=2**31 - 1)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Weight = Annotated[float, Field(gt=0.001, le=1000)]
Seconds = Annotated[int | None, Field(ge=1, le=31_536_000)]


class Shown(BaseModel):
    """A document that is made from a row."""

    model_config = ConfigDict(from_attributes=True)


class Wanted(BaseModel):
    """A document that a caller sends; what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


class ServerShown(Shown):
    """`connected`: the daemon is in touch with this appliance process."""

    id: str
    name: str
    state: ServerState
    connected: bool = False
    drain_deadline: datetime | None
    address: str
    hostname: str
    host: str
    has_rdma: bool
    cuda_version: str
    driver_version: str
    daemon_version: str
    key_since: datetime | None
    created_at: datetime
    revision: int


class ServerChange(Wanted):
    """`draining`: no new leases, those there get until the deadline; then `maintenance`."""

    state: Literal["active", "draining", "maintenance"]
    drain_deadline_s: Annotated[int, Field(ge=0, le=2_592_000)] | None = None


class UpgradeWanted(Wanted):
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9A-Za-z]+){1,5}$", max_length=40)]


class GpuShown(Shown):
    id: str
    server_id: str
    ordinal: int
    name: str
    memory_mib: int
    multiprocessors: int
    reserved_mib: int
    reserved_compute: int
    state: GpuState
    state_reason: str
    revision: int


class GpuChange(Wanted):
    state: Literal["ready", "disabled"]
    reason: Text = ""


class SliceShown(Shown):
    id: str
    lease_id: str
    gpu_id: str
    server_id: str
    ordinal: int
    memory_mib: int
    compute: int
    state: SliceState


class LeaseShown(Shown):
    id: str
    client_id: str
    request: str
    state: LeaseState
    gpus: int
    memory_mib: int | None
    fraction: float | None
    compute: int | None
    filters: list[str]
    one_server: bool
    priority: int
    keeper: str
    program: str
    trace: str
    position: int
    reason: str
    queued_at: datetime
    granted_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    revision: int


class LeaseWanted(Wanted):
    """A request. `client` may be left out with a token of scope `client`. `request` names it: the same name again is
    the same lease. A lease made here is kept until it is released; name a `keeper` (a process of the client, `agent`
    for its agent) to have it end with that process. `one_server`: all GPUs of a single server, or none."""

    client: Name | None = None
    request: Name | None = None
    gpus: Annotated[int, Field(ge=1, le=4096)] = 1
    memory_mib: Annotated[int | None, Field(ge=1, le=1 << 30)] = None
    fraction: Annotated[float | None, Field(gt=0, le=1)] = None
    compute: Annotated[int | None, Field(ge=1, le=1000)] = None
    filters: Annotated[list[Text], Field(max_length=32)] = []
    one_server: bool = False
    priority: Priority = 0
    timeout_s: Annotated[int, Field(ge=0, le=2_592_000)] = 0
    duration_s: Annotated[int, Field(ge=0, le=31_536_000)] = 0
    keeper: Text = ""
    program: Text = ""


class AccessShown(BaseModel):
    """What a program needs to reach its slices on one server."""

    server_id: str
    address: str
    secret: str
    slices: list[SliceShown]


class ClientShown(Shown):
    id: str
    name: str
    group_id: str
    revoked_at: datetime | None
    hostname: str
    host: str
    agent_version: str
    max_gpus: int | None
    max_memory_mib: int | None
    max_leases: int | None
    priority: int
    seen_at: datetime | None
    key_since: datetime | None
    created_at: datetime
    revision: int


class ClientChange(Wanted):
    """Fields left out stay as they are; a quota of null is unlimited."""

    group_id: Name | None = None
    max_gpus: Quota = None
    max_memory_mib: Quota = None
    max_leases: Quota = None
    priority: Priority | None = None


class GroupShown(Shown):
    id: str
    name: str
    weight: float
    priority: int
    max_gpus: int | None
    max_memory_mib: int | None
    max_leases: int | None
    max_lease_s: int | None
    idle_after_s: int | None
    created_at: datetime
    revision: int


class GroupWanted(Wanted):
    """Quotas of null are unlimited. `weight`: its share when the queue is long."""

    name: Name
    weight: Weight = 1.0
    priority: Priority = 0
    max_gpus: Quota = None
    max_memory_mib: Quota = None
    max_leases: Quota = None
    max_lease_s: Seconds = None
    idle_after_s: Seconds = None


class GroupChange(Wanted):
    """Fields left out stay as they are."""

    name: Name | None = None
    weight: Weight | None = None
    priority: Priority | None = None
    max_gpus: Quota = None
    max_memory_mib: Quota = None
    max_leases: Quota = None
    max_lease_s: Seconds = None
    idle_after_s: Seconds = None


class TokenShown(Shown):
    id: str
    name: str
    scope: str
    client_id: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    revision: int


class TokenWanted(Wanted):
    name: Name
    scope: Literal["read", "client", "operator", "admin"]
    client: Name | None = None
    valid_s: Seconds = None


class TokenMade(TokenShown):
    """The only time the token itself is shown."""

    token: str


class EnrolmentShown(Shown):
    id: str
    role: str
    name: str
    group_id: str | None
    begins: str
    expires_at: datetime
    used_at: datetime | None
    used_by: str
    created_at: datetime


class EnrolmentWanted(Wanted):
    """`name`: the name the holder gets, which may replace the key of an enrolled machine. `begins`: in maintenance, a
    server takes no leases until it is made active.
    """

    role: Literal["server", "client"]
    name: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    group: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    begins: Literal["active", "maintenance"] = "active"
    valid_s: Annotated[int, Field(ge=60, le=604_800)] = 3600


class EnrolmentMade(BaseModel):
    """`ticket` is what the machine needs; it works once."""

    ticket: str
    expires_in_s: int


class VCenterShown(Shown):
    id: str
    name: str
    address: str
    username: str
    fingerprint: str
    created_at: datetime
    revision: int


Fingerprint = Annotated[str, Field(pattern=r"^$|^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")]
Password = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(printable)]


def reachable(text: str) -> str:
    Endpoint.parse(text, "")
    return text


Address = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(named), AfterValidator(reachable)]


class VCenterWanted(Wanted):
    """`address`: HOST or HOST:PORT. `fingerprint`: SHA-256 of its certificate, to pin it."""

    name: Name
    address: Address
    username: Name
    password: Password
    fingerprint: Fingerprint = ""


class VCenterChange(Wanted):
    """Fields left out stay as they are."""

    name: Name | None = None
    address: Address | None = None
    username: Name | None = None
    password: Password | None = None
    fingerprint: Fingerprint | None = None


class EventShown(Shown):
    id: int
    at: datetime
    kind: str
    subject: str
    text: str
    trace: str


class AuditShown(Shown):
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    status: int
    trace: str


class ReadingShown(Shown):
    subject: str
    check: str
    state: str
    value: str
    threshold: str
    meaning: str
    remedy: str
    measured_at: datetime


class InstanceShown(Shown):
    id: str
    control_endpoint: str
    api_url: str
    started_at: datetime
    seen_at: datetime


class CertificateShown(BaseModel):
    """`role`: authority (clients trust it) or rest-api. `fingerprint`: SHA-256."""

    role: str
    subject: str
    names: list[str]
    fingerprint: str
    not_before: datetime
    not_after: datetime
    days_left: int


class BundleShown(BaseModel):
    """`name` tells bundles of one version apart; `key` (hex) signed it: machines take bundles of that key alone."""

    version: str
    name: str
    key: str
    roles: list[str]


class ApplianceShown(BaseModel):
    """`trouble`: why nothing can be decided now; empty when all is well. `control_key` (Z85) is the key by which
    machines know this appliance; they enrol and report at the two endpoints.
    """

    version: str
    control_key: str
    control_endpoint: str
    enrol_endpoint: str
    deciding: bool
    epoch: int
    trouble: str
    instances: list[InstanceShown]
    servers: int
    gpus: int
    memory_mib: int
    reserved_mib: int
    leases: int
    waiting: int


class HealthAsked(BaseModel):
    """How many daemons and agents were asked to measure."""

    asked: int


class Health(BaseModel):
    status: Literal["ok", "trouble"]
    detail: str = ""


class StepShown(Shown):
    """`progress` is a fraction, null where unknown; `found` and `did` are for people."""

    ordinal: int
    name: str
    title: str
    targets: list[str]
    state: StepState
    found: str
    did: str
    progress: float | None
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    log: list[str]


class RunShown(Shown):
    """`subject` is what it is about, for people; `parameters` are without secrets."""

    id: str
    kind: str
    subject: str
    vcenter: str
    state: RunState
    parameters: dict[str, Any]
    actor: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str
    remedy: str
    revision: int
    steps: list[StepShown]


class RunWanted(Wanted):
    """`parameters` depend on the kind: docs/provisioning.md. `dry_run`: only look and say what would be done."""

    kind: Name
    parameters: dict[str, Any]
    dry_run: bool = False


class HostKeyShown(Shown):
    """`confirmed_at` is null while nobody has confirmed it: nothing is deployed there yet."""

    id: str
    target: str
    public_key: str
    fingerprint: str
    source: str
    confirmed_by: str
    confirmed_at: datetime | None
    seen_at: datetime
    revision: int


class SshKeyShown(BaseModel):
    public_key: str


class HostKeyConfirmed(Wanted):
    """`fingerprint`: SHA256:... as the machine itself shows it."""

    fingerprint: Name


class InventoryGpu(BaseModel):
    """`state` and `next_step` as `gpuferry vcenter gpus` says them; `holder`: the VM that has it."""

    address: str
    name: str
    memory_mib: int
    state: str
    next_step: str
    holder: str


class InventoryHost(BaseModel):
    id: str
    name: str
    datacenter: str
    cluster: str
    connection: str
    maintenance: bool
    power: str
    tag: str
    gpus: list[InventoryGpu]
    rdma_nics: list[str]


class InventoryVm(BaseModel):
    """`role`: gpu-server or client, as the VM is or is tagged; empty for others."""

    id: str
    name: str
    host: str
    power: str
    address: str
    role: str
    tag: str
    template: bool
    cpus: int
    memory_mib: int


class InventoryNetwork(BaseModel):
    """`rdma`: a network that carries PVRDMA adapters on at least one host."""

    name: str
    rdma: bool


class InventoryDatastore(BaseModel):
    name: str
    free_mib: int
    capacity_mib: int


class InventoryShown(BaseModel):
    """As of `at`; `stale`: vCenter is away since. Names, except where a field is called id."""

    at: datetime
    stale: bool
    datacenters: list[str]
    clusters: list[str]
    hosts: list[InventoryHost]
    vms: list[InventoryVm]
    networks: list[InventoryNetwork]
    datastores: list[InventoryDatastore]
    templates: list[str]


class TagWanted(Wanted):
    """`object`: name or id of a host or VM."""

    object: Name
    tag: Literal["gpu-server", "client"]
    present: bool = True


class TagShown(BaseModel):
    object: str
    tag: str
    present: bool
    changed: bool
