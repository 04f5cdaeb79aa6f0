"""The pool as people look at it: servers by name, what is on each GPU and how it is used, sessions, the last minutes.

These documents join what the plain resources say one by one, so that a console asks once for what it shows.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select

from appliance.api.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from appliance.api.problems import answers
from appliance.api.security import Reader, ReaderOrClient, Scope
from appliance.api.servers import Words, printable_or_422
from appliance.state.database import reading
from appliance.state.models import (
    ApiToken,
    Client,
    Gpu,
    GpuState,
    Group,
    Lease,
    Reading,
    Server,
    ServerState,
    Slice,
    SliceState,
)

router = APIRouter(tags=["live"])
QUIET_BEATS = 3
MOST_SERVERS = 64


class PoolServer(BaseModel):
    """A GPU server in one line."""

    id: str
    name: str
    state: ServerState
    connected: bool
    gpus: int
    memory_mib: int
    reserved_mib: int


class SliceHeld(BaseModel):
    """A slice and who holds it."""

    id: str
    lease_id: str
    client_id: str
    client: str
    program: str
    memory_mib: int
    compute: int
    state: SliceState


class ReadingBad(BaseModel):
    check: str
    state: str
    value: str


class GpuNow(BaseModel):
    """A GPU, its slices, and how it is used; None where its daemon or driver does not say.

    Temperature in °C, utilisation in %, power in W; `history`: utilisation, oldest first."""

    id: str
    ordinal: int
    name: str
    memory_mib: int
    reserved_mib: int
    state: GpuState
    state_reason: str
    temperature_c: float | None
    utilisation: float | None
    memory_used_mib: float | None
    power_w: float | None
    history: list[float]
    slices: list[SliceHeld]
    bad: list[ReadingBad]


class ServerNow(BaseModel):
    """A GPU server with everything that is on it. `bad`: its own readings that are not ok."""

    id: str
    name: str
    state: ServerState
    connected: bool
    host: str
    address: str
    drain_deadline: datetime | None
    revision: int
    gpus: list[GpuNow]
    bad: list[ReadingBad]


class SampleShown(BaseModel):
    """The pool at one moment. `utilisation`: mean of the GPUs that say, in %."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    memory_mib: int
    reserved_mib: int
    leases: int
    waiting: int
    sessions: int
    utilisation: float | None


class SessionShown(BaseModel):
    """The sessions of one lease on one server; rates are per second. `idle_s`: since one of them used a GPU."""

    lease_id: str
    client_id: str
    client: str
    server_id: str
    server: str
    program: str
    sessions: int
    memory_mib: int
    calls: int
    calls_s: float
    round_trips: int
    round_trips_s: float
    bytes: int
    bytes_s: float
    idle_s: float


class WhoAmI(BaseModel):
    """The token that asks."""

    id: str
    name: str
    scope: Scope
    client_id: str | None
    expires_at: datetime | None


@router.get("/whoami", responses=answers(), tags=["tokens"])
def get_whoami(request: Request, caller: ReaderOrClient) -> WhoAmI:
    """What the token of this request may do, and until when."""
    with reading(request.app.state.engine) as session:
        row = session.get_one(ApiToken, caller.token)
        return WhoAmI(id=row.id, name=row.name, scope=caller.scope, client_id=row.client_id, expires_at=row.expires_at)


@router.get("/names", responses=answers())
def get_names(
    request: Request, caller: Reader, id: Annotated[list[str], Query(max_length=500, description="What to name")]
) -> dict[str, str]:
    """The names of servers, clients and groups; ids that nothing has are left out."""
    wanted = [printable_or_422(each) for each in id]
    with reading(request.app.state.engine) as session:
        return {
            row[0]: row[1]
            for table in (Server, Client, Group)
            for row in session.execute(select(table.id, table.name).where(table.id.in_(wanted)))
        }


@router.get("/pool/servers", responses=answers())
def list_pool(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    words: Annotated[str | None, Query(max_length=200, description="Part of a server's or a GPU's name")] = None,
) -> Page[PoolServer]:
    """The GPU servers in the order of their names, each with the sums of its GPUs. Revoked ones are left out."""
    query = (
        select(
            Server.id,
            Server.name,
            Server.state,
            func.count(Gpu.id),
            func.coalesce(func.sum(Gpu.memory_mib), 0),
            func.coalesce(func.sum(Gpu.reserved_mib), 0),
        )
        .outerjoin(Gpu, (Gpu.server_id == Server.id) & (Gpu.state != GpuState.MISSING))
        .where(Server.state != ServerState.REVOKED)
        .group_by(Server.id)
        .order_by(Server.name)
        .limit(limit + 1)
    )
    if words is not None:
        part = printable_or_422(words)
        of_gpu = select(Gpu.server_id).where(Gpu.name.icontains(part, autoescape=True))
        query = query.where(Server.name.icontains(part, autoescape=True) | Server.id.in_(of_gpu))
    if cursor is not None:
        query = query.where(Server.name > decode_cursor(cursor))
    presence = request.app.state.loop.presence
    with reading(request.app.state.engine) as session:
        rows = session.execute(query).all()
    items = [
        PoolServer(
            id=row[0],
            name=row[1],
            state=row[2],
            connected=presence.route_to_server(row[0]) is not None,
            gpus=row[3],
            memory_mib=row[4],
            reserved_mib=row[5],
        )
        for row in rows[:limit]
    ]
    return Page(items=items, next=encode_cursor(items[-1].name) if len(rows) > limit else None)


@router.get("/pool/map", responses=answers())
def get_map(
    request: Request,
    caller: Reader,
    server: Annotated[list[str], Query(max_length=MOST_SERVERS, description="Ids of the servers to show")],
) -> list[ServerNow]:
    """What is on these servers now: GPUs, slices with their holders, use, temperature, readings that are not ok."""
    loop = request.app.state.loop
    wanted = [printable_or_422(each) for each in server]
    with reading(request.app.state.engine) as session:
        servers = session.scalars(select(Server).where(Server.id.in_(wanted)).order_by(Server.name)).all()
        gpus = session.scalars(select(Gpu).where(Gpu.server_id.in_(wanted)).order_by(Gpu.ordinal)).all()
        held = session.execute(
            select(Slice, Client.id, Client.name, Lease.program)
            .join(Lease, Lease.id == Slice.lease_id)
            .join(Client, Client.id == Lease.client_id)
            .where(Slice.server_id.in_(wanted), Slice.state != SliceState.FREED)
            .order_by(Slice.id)
        ).all()
        subjects = [each.id for each in servers] + [f"{each.server_id}/{each.id}" for each in gpus]
        bad = session.scalars(
            select(Reading).where(Reading.subject.in_(subjects), Reading.state != "ok").order_by(Reading.check)
        ).all()
    slices: dict[str, list[SliceHeld]] = defaultdict(list)
    for each, client_id, client, program in held:
        slices[each.gpu_id].append(
            SliceHeld(
                id=each.id,
                lease_id=each.lease_id,
                client_id=client_id,
                client=client,
                program=program,
                memory_mib=each.memory_mib,
                compute=each.compute,
                state=each.state,
            )
        )
    readings: dict[str, list[ReadingBad]] = defaultdict(list)
    for found in bad:
        readings[found.subject].append(ReadingBad(check=found.check, state=found.state, value=found.value))
    shown: dict[str, list[GpuNow]] = defaultdict(list)
    for gpu in gpus:
        use = loop.telemetry.gpu(gpu.server_id, gpu.id)
        shown[gpu.server_id].append(
            GpuNow(
                id=gpu.id,
                ordinal=gpu.ordinal,
                name=gpu.name,
                memory_mib=gpu.memory_mib,
                reserved_mib=gpu.reserved_mib,
                state=gpu.state,
                state_reason=gpu.state_reason,
                temperature_c=use.temperature_c,
                utilisation=use.utilisation,
                memory_used_mib=use.memory_used_mib,
                power_w=use.power_w,
                history=list(use.history),
                slices=slices[gpu.id],
                bad=readings[f"{gpu.server_id}/{gpu.id}"],
            )
        )
    return [
        ServerNow(
            id=row.id,
            name=row.name,
            state=row.state,
            connected=loop.presence.route_to_server(row.id) is not None,
            host=row.host,
            address=row.address,
            drain_deadline=row.drain_deadline,
            revision=row.revision,
            gpus=shown[row.id],
            bad=readings[row.id],
        )
        for row in servers
    ]


@router.get("/pool/history", responses=answers())
def get_history(request: Request, caller: Reader) -> list[SampleShown]:
    """The pool every few seconds over the last half hour, oldest first, as this appliance process saw it."""
    return [SampleShown.model_validate(each) for each in request.app.state.loop.telemetry.samples()]


@router.get("/sessions", responses=answers())
def list_sessions(
    request: Request,
    caller: ReaderOrClient,
    limit: Limit = 100,
    cursor: Cursor = None,
    lease: Words = None,
    server: Words = None,
    client: Words = None,
    words: Annotated[
        str | None, Query(max_length=200, description="Part of a client's, server's or program's name")
    ] = None,
) -> Page[SessionShown]:
    """What programs do now: calls, blocking round trips and bytes of the sessions of each lease on each server."""
    loop = request.app.state.loop
    wanted_client = caller.client if caller.scope == Scope.CLIENT else client
    uses = [
        each
        for each in loop.telemetry.sessions(QUIET_BEATS * loop.presence.heartbeat_s(loop.ledger.settings.heartbeat_s))
        if each.use.sessions and lease in (None, each.use.lease) and server in (None, each.server)
    ]
    with reading(request.app.state.engine) as session:
        owners: dict[str, tuple[str, str, str]] = {}
        ids = sorted({each.use.lease for each in uses})
        for start in range(0, len(ids), 500):
            rows = session.execute(
                select(Lease.id, Client.id, Client.name, Lease.program)
                .join(Client, Client.id == Lease.client_id)
                .where(Lease.id.in_(ids[start : start + 500]))
            )
            owners.update({row[0]: (row[1], row[2], row[3]) for row in rows})
        names = {row[0]: row[1] for row in session.execute(select(Server.id, Server.name))}
    made = [
        SessionShown(
            lease_id=each.use.lease,
            client_id=owners[each.use.lease][0],
            client=owners[each.use.lease][1],
            server_id=each.server,
            server=names.get(each.server, each.server),
            program=owners[each.use.lease][2],
            sessions=each.use.sessions,
            memory_mib=each.use.memory_mib,
            calls=each.use.calls,
            calls_s=round(each.calls_s, 1),
            round_trips=each.use.round_trips,
            round_trips_s=round(each.round_trips_s, 1),
            bytes=each.use.bytes,
            bytes_s=round(each.bytes_s, 1),
            idle_s=round(each.use.idle_s, 1),
        )
        for each in uses
        if each.use.lease in owners
    ]
    part = (words or "").casefold()
    made = sorted(
        (
            each
            for each in made
            if wanted_client in (None, each.client_id)
            and part in f"{each.client}\n{each.server}\n{each.program}\n{each.lease_id}".casefold()
        ),
        key=lambda each: f"{each.lease_id} {each.server_id}",
    )
    if cursor is not None:
        last = decode_cursor(cursor)
        made = [each for each in made if f"{each.lease_id} {each.server_id}" > last]
    following = f"{made[limit - 1].lease_id} {made[limit - 1].server_id}" if len(made) > limit else None
    return Page(items=made[:limit], next=encode_cursor(following) if following else None)
