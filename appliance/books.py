"""Carries leases, slices and reservations between memory and the database, many decisions in one transaction.

`Books` collects what a batch of decisions changed and writes each row once. Reservations are written as differences, so
that the database's CHECKs judge the sum, and never the opinion of one process about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Table, bindparam, delete, insert, select, update

from appliance.filters import FilterError, parse_filters
from appliance.live import LiveLease, LiveSlice
from appliance.placement import FAR, NEAR, NEAREST, ORDINARY, Shape
from appliance.pool import Gpu, Pool, Server
from appliance.settings import Settings
from appliance.state import models
from appliance.state.models import GpuState, LeaseState, ServerState, SliceState
from appliance.state.pipeline import Pipeline, RowsMissingError, speaks_pipeline
from appliance.waiting import Member, Quota

NEAR_US, FAR_US = 60.0, 1000.0
"""Round trips, in microseconds, up to which a server is near and above which it is far."""


class LedgerError(RuntimeError):
    """The database does not hold what this process thought it would; nothing was kept."""


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def seconds(moment_: datetime | None) -> float | None:
    return None if moment_ is None else moment_.timestamp()


_update_gpu = (
    update(models.Gpu.__table__)  # type: ignore[arg-type]
    .where(models.Gpu.__table__.c.id == bindparam("b_id"))
    .values(
        reserved_mib=models.Gpu.__table__.c.reserved_mib + bindparam("b_mib"),
        reserved_compute=models.Gpu.__table__.c.reserved_compute + bindparam("b_compute"),
    )
)
_update_slice = (
    update(models.Slice.__table__)  # type: ignore[arg-type]
    .where(models.Slice.__table__.c.id == bindparam("b_id"))
    .values(state=bindparam("b_state"))
)
_update_lease = (
    update(models.Lease.__table__)  # type: ignore[arg-type]
    .where(models.Lease.__table__.c.id == bindparam("b_id"))
    .values(
        revision=models.Lease.__table__.c.revision + 1,
        **{
            name: bindparam(f"b_{name}")
            for name in ("state", "keeper", "fence", "reason", "position", "granted_at", "expires_at", "ended_at")
        },
    )
)


LEASE, SLICE, GPU, EVENT, AUDIT = (
    cast("Table", each.__table__) for each in (models.Lease, models.Slice, models.Gpu, models.Event, models.Audit)
)
CHANGE_LEASE = "revision = t.revision + 1, " + ", ".join(
    f"{name} = v.{name}"
    for name in ("state", "keeper", "fence", "reason", "position", "granted_at", "expires_at", "ended_at")
)
CHANGE_GPU = (
    "reserved_mib = t.reserved_mib + v.reserved_mib, reserved_compute = t.reserved_compute + v.reserved_compute"
)


class Books:
    """What a batch of decisions changed."""

    def __init__(self) -> None:
        self.new_leases: dict[str, LiveLease] = {}
        self.changed_leases: dict[str, LiveLease] = {}
        self.new_slices: dict[str, LiveSlice] = {}
        self.changed_slices: dict[str, LiveSlice] = {}
        self.reservations: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.events: list[dict[str, Any]] = []
        self.audit: list[dict[str, Any]] = []
        self.fence = 0

    def lease(self, lease: LiveLease) -> None:
        """Note that a lease has changed."""
        if lease.id not in self.new_leases:
            self.changed_leases[lease.id] = lease

    def slice(self, slice_: LiveSlice) -> None:
        """Note that a slice has changed."""
        if slice_.id not in self.new_slices:
            self.changed_slices[slice_.id] = slice_

    def reserve(self, slice_: LiveSlice, sign: int) -> None:
        """Note that a slice's memory and compute were taken (+1) or given back (-1)."""
        difference = self.reservations[slice_.gpu]
        difference[0] += sign * slice_.memory_mib
        difference[1] += sign * slice_.compute

    def event(self, kind: str, subject: str, text: str, trace: str = "") -> None:
        self.events.append({"kind": kind, "subject": subject, "text": text, "trace": trace})

    @property
    def empty(self) -> bool:
        return not (
            self.new_leases
            or self.changed_leases
            or self.new_slices
            or self.changed_slices
            or self.reservations
            or self.events
            or self.audit
            or self.fence
        )

    def write(self, connection: Connection, *, commit: bool = False) -> None:
        """Write everything noted. Raises LedgerError when a row that must be there is not.

        `commit`: where that saves a round trip, the transaction is committed with it.
        """
        if speaks_pipeline(connection):
            self._write_at_once(connection, commit)
            return
        if self.new_leases:
            connection.execute(insert(models.Lease), [_lease_row(lease) for lease in self.new_leases.values()])
        if self.changed_leases:
            rows = [_lease_change(lease) for lease in self.changed_leases.values()]
            _exactly(len(rows), connection.execute(_update_lease, rows), "leases")
        if self.new_slices:
            connection.execute(insert(models.Slice), [_slice_row(each) for each in self.new_slices.values()])
        if self.changed_slices:
            rows = [{"b_id": each.id, "b_state": each.state} for each in self.changed_slices.values()]
            _exactly(len(rows), connection.execute(_update_slice, rows), "slices")
        moved = [
            {"b_id": gpu, "b_mib": mib, "b_compute": compute}
            for gpu, (mib, compute) in sorted(self.reservations.items())
            if mib or compute
        ]
        if moved:
            _exactly(len(moved), connection.execute(_update_gpu, moved), "GPUs")
        if self.fence:
            connection.execute(update(models.Scheduler).where(models.Scheduler.id == 1).values(fence=self.fence))
        if self.events:
            connection.execute(insert(models.Event), self.events)
        if self.audit:
            connection.execute(insert(models.Audit), self.audit)

    def _write_at_once(self, connection: Connection, commit: bool) -> None:
        pipeline = Pipeline(connection)
        if self.new_leases:
            pipeline.insert(LEASE, map(_lease_row, self.new_leases.values()))
        if self.changed_leases:
            rows = [_plain(_lease_change(lease)) for lease in self.changed_leases.values()]
            pipeline.change(LEASE, rows, CHANGE_LEASE)
        if self.new_slices:
            pipeline.insert(SLICE, map(_slice_row, self.new_slices.values()))
        if self.changed_slices:
            changed = [{"id": each.id, "state": each.state} for each in self.changed_slices.values()]
            pipeline.change(SLICE, changed, "state = v.state")
        moved = [
            {"id": gpu, "reserved_mib": mib, "reserved_compute": compute}
            for gpu, (mib, compute) in sorted(self.reservations.items())
            if mib or compute
        ]
        if moved:
            pipeline.change(GPU, moved, CHANGE_GPU)
        if self.fence:
            pipeline.add("UPDATE scheduler SET fence = %(fence)s WHERE id = 1", {"fence": self.fence})
        if self.events:
            pipeline.insert(EVENT, self.events)
        if self.audit:
            pipeline.insert(AUDIT, self.audit)
        try:
            pipeline.run(commit=commit)
        except RowsMissingError as missing:
            raise LedgerError(str(missing)) from missing


def _plain(change: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("b_"): value for name, value in change.items()}


def _exactly(wanted: int, result: Any, what: str) -> None:
    changed = cast("CursorResult[Any]", result).rowcount
    if changed not in (wanted, -1):
        raise LedgerError(f"{wanted} {what} were to change, the database has {changed} of them")


def _lease_row(lease: LiveLease) -> dict[str, Any]:
    return {
        "id": lease.id,
        "client_id": lease.member.id,
        "request": lease.request,
        "state": lease.state,
        "gpus": lease.shape.gpus,
        "memory_mib": lease.shape.memory_mib,
        "fraction": lease.shape.fraction,
        "compute": lease.shape.compute,
        "filters": [str(each) for each in lease.shape.filters],
        "one_server": lease.shape.one_server,
        "priority": lease.priority,
        "keeper": lease.keeper,
        "program": lease.program,
        "trace": lease.trace,
        "timeout_s": lease.timeout_s,
        "duration_s": lease.duration_s,
        "fence": lease.fence,
        "reason": lease.reason,
        "position": lease.position,
        "queued_at": moment(lease.queued_at),
        "granted_at": moment(lease.granted_at),
        "expires_at": moment(lease.expires_at),
        "ended_at": moment(lease.ended_at),
    }


def _lease_change(lease: LiveLease) -> dict[str, Any]:
    return {
        "b_id": lease.id,
        "b_state": lease.state,
        "b_keeper": lease.keeper,
        "b_fence": lease.fence,
        "b_reason": lease.reason,
        "b_position": lease.position,
        "b_granted_at": moment(lease.granted_at),
        "b_expires_at": moment(lease.expires_at),
        "b_ended_at": moment(lease.ended_at),
    }


def _slice_row(each: LiveSlice) -> dict[str, Any]:
    return {
        "id": each.id,
        "lease_id": each.lease,
        "gpu_id": each.gpu,
        "server_id": each.server,
        "ordinal": each.ordinal,
        "memory_mib": each.memory_mib,
        "compute": each.compute,
        "fence": each.fence,
        "state": each.state,
    }


def load_pool(connection: Connection, settings: Settings) -> tuple[Pool, dict[str, ServerState]]:
    """Every server and GPU, nothing reserved yet, every server closed; and what the operator wants of each server."""
    pool = Pool(settings.slices_per_gpu)
    wanted: dict[str, ServerState] = {}
    for row in connection.execute(select(models.Server.__table__)).mappings():
        wanted[row["id"]] = ServerState(row["state"])
        pool.add_server(server_from(row))
    for row in connection.execute(select(models.Gpu.__table__).order_by(models.Gpu.ordinal)).mappings():
        pool.add_gpu(gpu_from(row, pool.servers[row["server_id"]]))
    return pool, wanted


def server_from(row: Any) -> Server:
    names = ("id", "name", "address", "hostname", "host", "has_rdma", "cuda_version", "driver_version")
    return Server(**{name: row[name] for name in names})


def gpu_from(row: Any, server: Server) -> Gpu:
    return Gpu(
        id=row["id"],
        server=server,
        ordinal=row["ordinal"],
        name=row["name"],
        memory_mib=row["memory_mib"],
        free_mib=row["memory_mib"],
        ready=row["state"] == GpuState.READY,
    )


def load_members(connection: Connection, only: str | None = None) -> dict[str, Member]:
    """Clients with their quotas, holding nothing yet; the members of one group share its Quota."""
    groups: dict[str, Any] = {}
    quotas: dict[str, Quota] = {}
    for row in connection.execute(select(models.Group.__table__)).mappings():
        groups[row["id"]] = row
        quotas[row["id"]] = Quota(f"group {row['name']}", row["max_gpus"], row["max_memory_mib"], row["max_leases"])
    query = select(models.Client.__table__)
    if only:
        query = query.where(models.Client.id == only)
    members: dict[str, Member] = {}
    for row in connection.execute(query).mappings():
        group = groups[row["group_id"]]
        members[row["id"]] = Member(
            id=row["id"],
            quota=Quota(f"client {row['name']}", row["max_gpus"], row["max_memory_mib"], row["max_leases"]),
            group=row["group_id"],
            group_quota=quotas[row["group_id"]],
            weight=group["weight"],
            priority=group["priority"] + row["priority"],
            revoked=row["revoked_at"] is not None,
            host=row["host"],
            max_lease_s=group["max_lease_s"],
            idle_after_s=group["idle_after_s"],
        )
    return members


def load_near(connection: Connection) -> dict[str, dict[str, int]]:
    """Client → server → distance class, from what clients measured."""
    near: dict[str, dict[str, int]] = {}
    table = models.Distance.__table__
    for row in connection.execute(select(table)).mappings():
        near.setdefault(row["client_id"], {})[row["server_id"]] = distance_class(row["round_trip_us"], row["rdma"])
    return near


def distance_class(round_trip_us: float, rdma: bool) -> int:
    if rdma or round_trip_us <= NEAR_US:
        return NEAR
    return FAR if round_trip_us > FAR_US else ORDINARY


def near_of(member: Member, measured: dict[str, int], pool: Pool, by_host: dict[str, list[str]]) -> dict[str, int]:
    """A client's distance classes: what it measured, and NEAREST for servers on its own ESXi host."""
    if not member.host or member.host not in by_host:
        return measured
    return {**measured, **{server: NEAREST for server in by_host[member.host] if server in pool.servers}}


def load_leases(connection: Connection, members: dict[str, Member]) -> tuple[list[LiveLease], list[LiveSlice]]:
    """Leases that are not over, with their slices; and the slices of earlier grants still to be released."""
    table = models.Lease.__table__
    live: dict[str, LiveLease] = {}
    for row in connection.execute(select(table).where(table.c.state != LeaseState.ENDED)).mappings():
        live[row["id"]] = lease_from(row, members[row["client_id"]])
    leaving: list[LiveSlice] = []
    slices = models.Slice.__table__
    query = select(slices).where(slices.c.state != SliceState.FREED).order_by(slices.c.ordinal)
    for row in connection.execute(query).mappings():
        each = LiveSlice(
            id=row["id"],
            lease=row["lease_id"],
            gpu=row["gpu_id"],
            server=row["server_id"],
            ordinal=row["ordinal"],
            memory_mib=row["memory_mib"],
            compute=row["compute"],
            fence=row["fence"],
            state=SliceState(row["state"]),
        )
        if each.state is SliceState.RELEASING:
            leaving.append(each)
        else:
            live[each.lease].slices.append(each)
    return list(live.values()), leaving


def lease_from(row: Any, member: Member) -> LiveLease:
    """A lease from its row. Raises FilterError for filters no version of the appliance would have written."""
    try:
        filters = parse_filters(row["filters"])
    except FilterError as wrong:
        raise FilterError(f"lease {row['id']} in the database: {wrong}") from wrong
    queued_at = row["queued_at"].timestamp()
    timeout_s = row["timeout_s"]
    return LiveLease(
        id=row["id"],
        member=member,
        request=row["request"],
        shape=Shape(row["gpus"], row["memory_mib"], row["fraction"], row["compute"], filters, row["one_server"]),
        state=LeaseState(row["state"]),
        queued_at=queued_at,
        priority=row["priority"],
        keeper=row["keeper"],
        program=row["program"],
        trace=row["trace"],
        timeout_s=timeout_s,
        duration_s=row["duration_s"],
        deadline=queued_at + timeout_s if timeout_s else None,
        granted_at=seconds(row["granted_at"]),
        expires_at=seconds(row["expires_at"]),
        fence=row["fence"],
        reason=row["reason"],
        position=row["position"],
    )


def take_changes(connection: Connection) -> list[tuple[str, str]]:
    """Read and delete the notes that other processes and threads left: (kind, subject), oldest first, each once."""
    table = models.Change.__table__
    rows = connection.execute(select(table).order_by(table.c.id).limit(1000)).all()
    if rows:
        connection.execute(delete(models.Change).where(models.Change.id.in_([row.id for row in rows])))
    return list(dict.fromkeys((row.kind, row.subject) for row in rows))


def note_changes(connection: Connection, changes: Iterable[tuple[str, str]]) -> None:
    """Leave notes for the deciding process."""
    connection.execute(insert(models.Change), [{"kind": kind, "subject": subject} for kind, subject in changes])
