"""Takes into the ledger what others wrote: the API's requests and releases, operators' wishes, daemons' inventories.

Other threads and processes write a row and a note (`books.note_changes`) in one transaction; the deciding process reads
the notes here and brings its memory up to the row. Reading a row twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from appliance import books
from appliance.feasibility import RequestRefusedError
from appliance.ledger import Ledger
from appliance.live import RenewKeyOrder, ReportWanted, UpgradeOrder
from appliance.pool import Gpu, Server
from appliance.settings import read_settings
from appliance.state import models
from appliance.state.models import GpuState, LeaseState, ServerState

log = structlog.get_logger(__name__)
LARGEST_MIB = 16 * 1024 * 1024
"""16 TiB: a GPU that claims more is lying."""


@dataclass(frozen=True)
class ReportedGpu:
    """A GPU as its daemon describes it."""

    id: str
    ordinal: int
    name: str
    memory_mib: int
    multiprocessors: int = 0


_gpus_of = select(models.Gpu.__table__).where(models.Gpu.__table__.c.server_id == bindparam("server"))


def apply_changes(ledger: Ledger) -> bool:
    """Take in every note; inside a batch. Returns whether there was one."""
    changes = books.take_changes(ledger.connection)
    for kind, subject in changes:
        APPLY[kind](ledger, subject)
    return bool(changes)


def _row(ledger: Ledger, table: Any, key: str) -> Any:
    return ledger.connection.execute(select(table).where(table.c.id == key)).mappings().one_or_none()


def _client_changed(ledger: Ledger, subject: str) -> None:
    fresh = books.load_members(ledger.connection, subject).get(subject)
    if fresh is None:
        return
    known = ledger.members.get(subject)
    if known is None or known.group != fresh.group:
        siblings = (each for each in ledger.members.values() if each.group == fresh.group and each is not known)
        shared = next(siblings, None)
        if shared is not None:
            fresh.group_quota = shared.group_quota
    if known is None:
        ledger.members[subject] = known = fresh
    else:
        held = [lease for lease in ledger.leases.values() if lease.member is known and lease.slices]
        for lease in held:
            known.group_quota.add((each.share for each in lease.slices), -1)
        known.quota.name, known.quota.max_gpus = fresh.quota.name, fresh.quota.max_gpus
        known.quota.max_memory_mib, known.quota.max_leases = fresh.quota.max_memory_mib, fresh.quota.max_leases
        for name in ("group", "weight", "priority", "revoked", "host", "max_lease_s", "idle_after_s"):
            setattr(known, name, getattr(fresh, name))
        if fresh.group_quota is not known.group_quota:
            known.group_quota = _shared_quota(ledger, known, fresh)
        for lease in held:
            known.group_quota.add((each.share for each in lease.slices), 1)
    if known.revoked:
        for lease in [lease for lease in ledger.leases.values() if lease.member is known]:
            ledger.end(lease, "the client's enrolment was revoked")
    ledger.freed = True


def _shared_quota(ledger: Ledger, member: Any, fresh: Any) -> Any:
    """The quota object of a member's (new) group: the one its other members count in, with the limits of now."""
    for each in ledger.members.values():
        if each.group == member.group and each is not member:
            return each.group_quota
    if member.group_quota.name == fresh.group_quota.name:
        return member.group_quota
    return fresh.group_quota


def _group_changed(ledger: Ledger, subject: str) -> None:
    row = _row(ledger, models.Group.__table__, subject)
    clients = {row.id: row.priority for row in ledger.connection.execute(_priorities(subject))}
    for member in ledger.members.values():
        if row is None or member.group != subject:
            continue
        quota = member.group_quota
        quota.name, quota.max_gpus = f"group {row['name']}", row["max_gpus"]
        quota.max_memory_mib, quota.max_leases = row["max_memory_mib"], row["max_leases"]
        member.weight, member.priority = row["weight"], row["priority"] + clients.get(member.id, 0)
        member.max_lease_s, member.idle_after_s = row["max_lease_s"], row["idle_after_s"]
    ledger.freed = True


def _priorities(group: str) -> Any:
    return select(models.Client.id, models.Client.priority).where(models.Client.group_id == group)


def _lease_changed(ledger: Ledger, subject: str) -> None:
    row = _row(ledger, models.Lease.__table__, subject)
    if row is None or row["state"] == LeaseState.ENDED:
        return
    lease = ledger.leases.get(subject)
    if lease is None:
        member = ledger.members.get(row["client_id"])
        if member is None:
            _client_changed(ledger, row["client_id"])
            member = ledger.members[row["client_id"]]
        lease = books.lease_from(row, member)
        ledger.adopt(lease)
        try:
            ledger.check_possible(ledger.member(member.id), lease.shape)
        except RequestRefusedError as refused:
            ledger.end(lease, refused.reason)
            return
    if row["release_requested"]:
        ledger.end(lease, row["reason"] or "released through the API")


def _server_changed(ledger: Ledger, subject: str) -> None:
    row = _row(ledger, models.Server.__table__, subject)
    if row is None:
        return
    server = ledger.pool.servers.get(subject)
    if server is None:
        ledger.wanted[subject] = ServerState(row["state"])
        server = ledger.pool.add_server(books.server_from(row))
    _describe(ledger, server, row)
    deadline = row["drain_deadline"].timestamp() if row["drain_deadline"] else None
    ledger.set_wanted(subject, ServerState(row["state"]), deadline)


def _describe(ledger: Ledger, server: Server, row: Any) -> None:
    if server.host != row["host"]:
        for servers in ledger.by_host.values():
            if server.id in servers:
                servers.remove(server.id)
        if row["host"]:
            ledger.by_host.setdefault(row["host"], []).append(server.id)
    names = ("name", "address", "hostname", "host", "has_rdma", "cuda_version", "driver_version")
    ledger.pool.describe_server(server, **{name: row[name] for name in names})


def _gpu_changed(ledger: Ledger, subject: str) -> None:
    row = _row(ledger, models.Gpu.__table__, subject)
    gpu = ledger.pool.gpus.get(subject)
    if row is not None and gpu is not None:
        ledger.pool.set_ready(gpu, row["state"] == GpuState.READY)
        ledger.freed = True


def _setting_changed(ledger: Ledger, subject: str) -> None:
    with Session(ledger.connection) as session:
        ledger.settings = read_settings(session)
    ledger.pool.slices_per_gpu = ledger.settings.slices_per_gpu
    ledger.freed = True


def _distance_changed(ledger: Ledger, subject: str) -> None:
    table = models.Distance.__table__
    rows = ledger.connection.execute(select(table).where(table.c.client_id == subject)).mappings()
    ledger.near[subject] = {row["server_id"]: books.distance_class(row["round_trip_us"], row["rdma"]) for row in rows}


def _upgrade_wanted(ledger: Ledger, subject: str) -> None:
    peer, _, version = subject.partition(" ")
    ledger.say(UpgradeOrder(peer, version))


def _new_key_wanted(ledger: Ledger, subject: str) -> None:
    ledger.say(RenewKeyOrder(subject))


def _report_wanted(ledger: Ledger, subject: str) -> None:
    ledger.say(ReportWanted(subject))


APPLY = {
    "report": _report_wanted,
    "upgrade": _upgrade_wanted,
    "renew-key": _new_key_wanted,
    "client": _client_changed,
    "group": _group_changed,
    "lease": _lease_changed,
    "server": _server_changed,
    "gpu": _gpu_changed,
    "setting": _setting_changed,
    "distance": _distance_changed,
}


def server_reported(
    ledger: Ledger,
    server_id: str,
    facts: dict[str, Any],
    *,
    gpus: Iterable[ReportedGpu],
    held: Iterable[tuple[str, int]],
    restarted: bool,
) -> list[str]:
    """A daemon said what it is, has and holds: write what is new, reconcile, open it. Returns what was wrong with it.

    `facts`: address, hostname, host, has_rdma, cuda_version, driver_version, daemon_version. `restarted`: the daemon is
    a new process, so its suspect GPUs get another chance.
    """
    connection = ledger.connection
    row = _row(ledger, models.Server.__table__, server_id)
    if row is None or row["state"] == ServerState.REVOKED:
        return [f"{server_id} is not enrolled any more"]
    if server_id not in ledger.pool.servers:
        _server_changed(ledger, server_id)
    server = ledger.pool.servers[server_id]
    changed = {name: value for name, value in facts.items() if row[name] != value}
    if changed:
        table = models.Server
        connection.execute(update(table).where(table.id == server_id).values(**changed, revision=table.revision + 1))
        _describe(ledger, server, {**row, **changed})
    wrong: list[str] = []
    seen: set[str] = set()
    own = connection.execute(_gpus_of, {"server": server_id}).mappings()
    rows = {each["id"]: each for each in own}
    for gpu in gpus:
        problem = _gpu_reported(ledger, server, gpu, (rows, restarted)) if gpu.id not in seen else "listed twice"
        seen.add(gpu.id)
        if problem:
            wrong.append(f"{gpu.id}: {problem}")
            ledger.now_deciding.books.event("gpu.rejected", gpu.id, f"{server.name}: {problem}")
    for gone in [gpu for gpu in server.gpus if gpu.id not in seen]:
        _set_state(ledger, gone, GpuState.MISSING, f"not in the inventory of {server.name} any more")
    ledger.reconcile(server_id, held)
    return wrong


def _set_state(ledger: Ledger, gpu: Gpu, state: GpuState, reason: str) -> None:
    table = models.Gpu
    query = update(table).where(table.id == gpu.id, table.state != state, table.state != GpuState.DISABLED)
    result = ledger.connection.execute(
        query.values(state=state, state_reason=reason[:500], revision=table.revision + 1)
    )
    if result.rowcount:
        ledger.pool.set_ready(gpu, state is GpuState.READY)
        ledger.now_deciding.books.event(f"gpu.{state}", gpu.id, reason)


def _gpu_reported(ledger: Ledger, server: Server, reported: ReportedGpu, known: tuple[dict[str, Any], bool]) -> str:
    """Take one GPU in; returns what is wrong with it, empty when nothing is. `known`: the server's rows, restarted."""
    rows, restarted = known
    if not 1 <= reported.memory_mib <= LARGEST_MIB:
        return f"claims {reported.memory_mib} MiB of memory"
    connection, table = ledger.connection, models.Gpu
    facts = {
        "ordinal": reported.ordinal,
        "name": reported.name,
        "multiprocessors": reported.multiprocessors,
    }
    gpu = ledger.pool.gpus.get(reported.id)
    if gpu is None:
        connection.execute(
            insert(table).values(
                id=reported.id,
                server_id=server.id,
                memory_mib=reported.memory_mib,
                reserved_mib=0,
                reserved_compute=0,
                state=GpuState.READY,
                state_reason="",
                revision=1,
                **facts,
            )
        )
        ledger.pool.add_gpu(
            Gpu(reported.id, server, reported.ordinal, reported.name, reported.memory_mib, reported.memory_mib)
        )
        ledger.freed = True
        return ""
    if gpu.server is not server:
        # A server that has reported and was not lost is there, whether it takes leases or not.
        if gpu.server.id in ledger.strays or gpu.slices:
            return f"already belongs to {gpu.server.name}, which is connected or still has leases on it"
        connection.execute(update(table).where(table.id == gpu.id).values(server_id=server.id))
        ledger.pool.move_gpu(gpu, server)
    row = rows.get(gpu.id) or _row(ledger, table.__table__, gpu.id)
    if row["memory_mib"] != reported.memory_mib:
        if gpu.slices:
            ledger.suspect(
                gpu, f"said {gpu.memory_mib} MiB before and {reported.memory_mib} MiB now, with slices on it"
            )
            return f"says {reported.memory_mib} MiB, said {gpu.memory_mib} MiB when slices were placed on it"
        ledger.pool.resize_gpu(gpu, reported.memory_mib)
        facts["memory_mib"] = reported.memory_mib
    changed = {name: value for name, value in facts.items() if row[name] != value}
    if changed:
        connection.execute(update(table).where(table.id == gpu.id).values(**changed, revision=table.revision + 1))
        ledger.pool.rename_gpu(gpu, reported.ordinal, reported.name)
    if row["state"] == GpuState.MISSING or (row["state"] == GpuState.SUSPECT and restarted):
        _set_state(ledger, gpu, GpuState.READY, f"reported by {server.name} again")
        ledger.freed = True
    return ""
