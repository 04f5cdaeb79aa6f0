"""The tables. Every rule that keeps a GPU from being promised twice is also a constraint of the database.

`gpu.reserved_mib` and `gpu.reserved_compute` only ever change by a relative UPDATE, and the CHECKs of that table hold
whatever code, however many processes, wherever one of them is killed. `slice` says to whom the reservation belongs.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A point in time, always UTC and always aware, on databases that keep zones and on those that do not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    return datetime.now(UTC)


class ServerState(enum.StrEnum):
    """What the operator wants of a GPU server; whether it is connected is another question."""

    ACTIVE = "active"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    REVOKED = "revoked"


class GpuState(enum.StrEnum):
    """`suspect`: the daemon's word about this GPU proved wrong; `missing`: no longer in its server's inventory."""

    READY = "ready"
    DISABLED = "disabled"
    SUSPECT = "suspect"
    MISSING = "missing"


class LeaseState(enum.StrEnum):
    """queued → granted (slices reserved) → active (every daemon has prepared) → ended."""

    QUEUED = "queued"
    GRANTED = "granted"
    ACTIVE = "active"
    ENDED = "ended"


class SliceState(enum.StrEnum):
    """`releasing`: the lease is over, the daemon has not yet said that the memory is free; still reserved."""

    RESERVED = "reserved"
    PREPARED = "prepared"
    RELEASING = "releasing"
    FREED = "freed"


class RunState(enum.StrEnum):
    """queued → running → succeeded | failed; cancelling → cancelled; rolling-back → rolled-back."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"


class StepState(enum.StrEnum):
    """`skipped`: what it is for was so already; `undone`: a roll-back took it back."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDONE = "undone"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment, dict[str, Any]: JSON, list[str]: JSON, str: String}  # noqa: RUF012


class Scheduler(Base):
    """One row: which appliance process decides. `epoch` grows with every change of hands and fences the former one."""

    __tablename__ = "scheduler"
    id: Mapped[int] = mapped_column(primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int]
    endpoint: Mapped[str]
    renewed_at: Mapped[datetime]
    fence: Mapped[int] = mapped_column(default=0)
    """The last fence given to a lease; never reused."""


class Instance(Base):
    """A running appliance process, where agents and people reach it."""

    __tablename__ = "instance"
    id: Mapped[str] = mapped_column(primary_key=True)
    control_endpoint: Mapped[str]
    api_url: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Group(Base):
    """Clients that share quotas, weight and priority. NULL quotas are unlimited."""

    __tablename__ = "client_group"
    __table_args__ = (CheckConstraint("weight > 0", name="weight"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[float] = mapped_column(default=1.0)
    priority: Mapped[int] = mapped_column(default=0)
    max_gpus: Mapped[int | None]
    max_memory_mib: Mapped[int | None]
    max_leases: Mapped[int | None]
    max_lease_s: Mapped[int | None]
    idle_after_s: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class Client(Base):
    """A VM whose programs use leases. `public_key` is its CURVE key (Z85), the name by which the bus knows it."""

    __tablename__ = "client"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("client_group.id"), index=True)
    public_key: Mapped[str | None] = mapped_column(unique=True)
    revoked_at: Mapped[datetime | None]
    hostname: Mapped[str] = mapped_column(default="")
    host: Mapped[str] = mapped_column(default="")
    """The ESXi host it runs on, where known: a GPU server on the same host is the closest."""
    agent_version: Mapped[str] = mapped_column(default="")
    max_gpus: Mapped[int | None]
    max_memory_mib: Mapped[int | None]
    max_leases: Mapped[int | None]
    priority: Mapped[int] = mapped_column(default=0)
    seen_at: Mapped[datetime | None]
    key_since: Mapped[datetime | None]
    """Since when its key is the one in use; empty: since `created_at`."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class Server(Base):
    """A GPU server. `address` is the data plane's `host:port`."""

    __tablename__ = "server"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    public_key: Mapped[str | None] = mapped_column(unique=True)
    state: Mapped[ServerState] = mapped_column(String(16), default=ServerState.ACTIVE, index=True)
    drain_deadline: Mapped[datetime | None]
    address: Mapped[str] = mapped_column(default="")
    hostname: Mapped[str] = mapped_column(default="")
    host: Mapped[str] = mapped_column(default="")
    has_rdma: Mapped[bool] = mapped_column(default=False)
    cuda_version: Mapped[str] = mapped_column(default="")
    driver_version: Mapped[str] = mapped_column(default="")
    daemon_version: Mapped[str] = mapped_column(default="")
    seen_at: Mapped[datetime | None]
    key_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class SpareKey(Base):
    """A key of a server or client besides the one in its row: its next one until it is first used (`valid_until` is
    empty), its former one for a moment after that."""

    __tablename__ = "spare_key"
    key: Mapped[str] = mapped_column(primary_key=True)
    peer_id: Mapped[str] = mapped_column(index=True)
    valid_until: Mapped[datetime | None]


class Gpu(Base):
    """One physical device, named by its UUID. Compute is in thousandths of its multiprocessors."""

    __tablename__ = "gpu"
    __table_args__ = (
        CheckConstraint("memory_mib > 0", name="memory"),
        CheckConstraint("reserved_mib >= 0 AND reserved_mib <= memory_mib", name="reserved_memory"),
        CheckConstraint("reserved_compute >= 0 AND reserved_compute <= 1000", name="reserved_compute"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    server_id: Mapped[str] = mapped_column(ForeignKey("server.id"), index=True)
    ordinal: Mapped[int]
    name: Mapped[str]
    memory_mib: Mapped[int]
    multiprocessors: Mapped[int] = mapped_column(default=0)
    reserved_mib: Mapped[int] = mapped_column(default=0)
    reserved_compute: Mapped[int] = mapped_column(default=0)
    state: Mapped[GpuState] = mapped_column(String(16), default=GpuState.READY)
    state_reason: Mapped[str] = mapped_column(default="")
    revision: Mapped[int] = mapped_column(default=1)


class Lease(Base):
    """What a client asked for, and how far that is. Ended leases are kept for `retention_days`."""

    __tablename__ = "lease"
    __table_args__ = (
        UniqueConstraint("client_id", "request"),
        CheckConstraint("gpus > 0", name="gpus"),
        Index("ix_lease_state", "state"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("client.id"), index=True)
    request: Mapped[str]
    """The client's own name of this request: asking again with the same name finds the same lease."""
    state: Mapped[LeaseState] = mapped_column(String(16))
    gpus: Mapped[int]
    memory_mib: Mapped[int | None]
    fraction: Mapped[float | None]
    compute: Mapped[int | None]
    filters: Mapped[list[str]] = mapped_column(default=list)
    one_server: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its slices must be on a single server, as one program needs them today."""
    priority: Mapped[int] = mapped_column(default=0)
    keeper: Mapped[str] = mapped_column(default="")
    """The process whose heartbeats keep it; empty: kept by hand (API) until released."""
    program: Mapped[str] = mapped_column(default="")
    trace: Mapped[str] = mapped_column(default="")
    timeout_s: Mapped[float | None]
    duration_s: Mapped[float | None]
    fence: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(default="")
    """Why it waits, or why it ended."""
    position: Mapped[int] = mapped_column(default=0)
    """Its place in the queue, from 1; 0: not waiting."""
    release_requested: Mapped[bool] = mapped_column(default=False)
    queued_at: Mapped[datetime]
    granted_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    revision: Mapped[int] = mapped_column(default=1)


class Slice(Base):
    """A share of one GPU under one lease."""

    __tablename__ = "slice"
    __table_args__ = (CheckConstraint("memory_mib > 0", name="memory"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    lease_id: Mapped[str] = mapped_column(ForeignKey("lease.id"), index=True)
    gpu_id: Mapped[str] = mapped_column(ForeignKey("gpu.id"), index=True)
    server_id: Mapped[str] = mapped_column(ForeignKey("server.id"), index=True)
    ordinal: Mapped[int]
    """The number under which the program sees it, 0…N-1."""
    memory_mib: Mapped[int]
    compute: Mapped[int] = mapped_column(default=0)
    """Reserved thousandths; 0: none reserved."""
    state: Mapped[SliceState] = mapped_column(String(16), index=True)
    fence: Mapped[int]
    """The fence of the grant it was made by; a lease that had to be placed again has a new one."""


class Distance(Base):
    """What a client measured on its way to a server."""

    __tablename__ = "distance"
    client_id: Mapped[str] = mapped_column(ForeignKey("client.id"), primary_key=True)
    server_id: Mapped[str] = mapped_column(ForeignKey("server.id"), primary_key=True)
    round_trip_us: Mapped[float]
    bandwidth_mbps: Mapped[float | None]
    mtu: Mapped[int | None]
    rdma: Mapped[bool] = mapped_column(default=False)
    measured_at: Mapped[datetime] = mapped_column(default=now)


class Reading(Base):
    """The last result of one health check on one subject."""

    __tablename__ = "reading"
    subject: Mapped[str] = mapped_column(primary_key=True)
    """`server-…`, `client-…`, or `server-…/GPU-…`."""
    check: Mapped[str] = mapped_column("check_name", primary_key=True)
    state: Mapped[str]
    value: Mapped[str]
    threshold: Mapped[str]
    meaning: Mapped[str]
    remedy: Mapped[str]
    measured_at: Mapped[datetime] = mapped_column(default=now)


class EnrolmentToken(Base):
    """A one-time ticket for a daemon or an agent. Only its digest is kept."""

    __tablename__ = "enrolment_token"
    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    """The name the holder gets; empty: the one it asks for."""
    group_id: Mapped[str | None] = mapped_column(ForeignKey("client_group.id"))
    begins: Mapped[str] = mapped_column(default=ServerState.ACTIVE)
    """The state that a server begins in."""
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)


class ApiToken(Base):
    """A bearer token of the REST API. Only its digest is kept; the token itself is shown once."""

    __tablename__ = "api_token"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scope: Mapped[str]
    client_id: Mapped[str | None] = mapped_column(ForeignKey("client.id"))
    """With scope `client`: whose leases it may see and change."""
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class VCenter(Base):
    """A vCenter the site uses. The password is sealed with the appliance's own key and never leaves by the API."""

    __tablename__ = "vcenter"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    address: Mapped[str]
    username: Mapped[str]
    sealed_password: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(default="")
    """SHA-256 of its certificate, where the site pins it instead of trusting a CA."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class Event(Base):
    """Something that happened, for people and for the live stream."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    kind: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    text: Mapped[str]
    trace: Mapped[str] = mapped_column(default="")


class Audit(Base):
    """Every write that came through the API or the bus: who, what, when, and whether it was let through."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    status: Mapped[int]
    trace: Mapped[str] = mapped_column(default="")


class Change(Base):
    """A note to the deciding process that a row it keeps in memory was changed by another; it deletes what it read."""

    __tablename__ = "change"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    subject: Mapped[str]


class Setting(Base):
    """A setting that differs from its default; `value` holds it under the key `value`."""

    __tablename__ = "setting"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(default=1)


class Run(Base):
    """A provisioning run. The workflow that carries it out is DBOS's; what it found and did is here."""

    __tablename__ = "run"
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    """What it is about, for people."""
    vcenter: Mapped[str] = mapped_column(default="")
    key: Mapped[str]
    """Runs of one key go one after the other: it names the host or machine they change."""
    state: Mapped[RunState] = mapped_column(String(16), index=True)
    parameters: Mapped[dict[str, Any]]
    sealed: Mapped[str] = mapped_column(default="")
    """The secrets among its parameters, sealed with the site's key."""
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What steps leave for later ones and for the way back: addresses, ids, what was so before."""
    actor: Mapped[str] = mapped_column(default="")
    trace: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    error: Mapped[str] = mapped_column(default="")
    remedy: Mapped[str] = mapped_column(default="")
    attempt: Mapped[int] = mapped_column(default=1)
    """Counts starts, retries and roll-backs; part of the workflow's id."""
    term: Mapped[int] = mapped_column(default=0)
    """Grows whenever a process takes the run up; what an earlier one still writes is refused."""
    executor: Mapped[str] = mapped_column(default="")
    revision: Mapped[int] = mapped_column(default=1)


class RunStep(Base):
    """One step of a run. `targets` is what it is about where a run has several steps of a name."""

    __tablename__ = "run_step"
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    title: Mapped[str]
    targets: Mapped[list[str]] = mapped_column(default=list)
    state: Mapped[StepState] = mapped_column(String(16), default=StepState.PENDING)
    found: Mapped[str] = mapped_column(default="")
    did: Mapped[str] = mapped_column(default="")
    progress: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    acted: Mapped[bool] = mapped_column(default=False)
    """Written before it changes anything: whether a roll-back has something to take back."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    log: Mapped[list[str]] = mapped_column(default=list)


class RunExecutor(Base):
    """An appliance process that carries runs out; one that is silent has its runs taken over."""

    __tablename__ = "run_executor"
    id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]


class Acceptance(Base):
    """The result of an acceptance test of a GPU server."""

    __tablename__ = "acceptance"
    id: Mapped[str] = mapped_column(primary_key=True)
    server_id: Mapped[str] = mapped_column(ForeignKey("server.id"), index=True)
    run_id: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime] = mapped_column(default=now)
    passed: Mapped[bool]
    result: Mapped[dict[str, Any]]


class HostKey(Base):
    """The SSH host key of a machine the appliance deploys to; nothing is sent to one that is not confirmed."""

    __tablename__ = "host_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(unique=True)
    """address:port"""
    public_key: Mapped[str]
    fingerprint: Mapped[str]
    source: Mapped[str] = mapped_column(default="first use")
    """Where it comes from: `first use`, or the VM's own record in vCenter."""
    confirmed_by: Mapped[str] = mapped_column(default="")
    confirmed_at: Mapped[datetime | None]
    seen_at: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012
