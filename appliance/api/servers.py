"""GPU servers, their GPUs, and who has slices of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page, tag
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import (
    GpuChange,
    GpuShown,
    ServerChange,
    ServerShown,
    SliceShown,
    UpgradeWanted,
)
from appliance.api.security import Caller, Operator, Reader
from appliance.books import note_changes
from appliance.state.database import reading, writing
from appliance.state.models import Client, Gpu, GpuState, Server, ServerState, Slice, SliceState, now

router = APIRouter(tags=["servers"])
Words = Annotated[str | None, Query(max_length=200)]


def show_server(request: Request, row: Server) -> ServerShown:
    shown = ServerShown.model_validate(row)
    shown.connected = request.app.state.loop.presence.route_to_server(row.id) is not None
    return shown


@router.get("/servers", responses=answers())
def list_servers(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: ServerState | None = None,
    name: Words = None,
) -> Page[ServerShown]:
    """Every GPU server that was ever enrolled and not forgotten."""
    query = select(Server)
    if state:
        query = query.where(Server.state == state)
    if name is not None:
        query = query.where(Server.name.contains(printable_or_422(name), autoescape=True))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, Server.id, lambda row: show_server(request, row), limit=limit, cursor=cursor)


def printable_or_422(text: str) -> str:
    if not text.isprintable():
        raise ProblemError(422, "only printable characters can be searched for")
    return text


@router.get("/servers/{id}", responses=answers(404))
def get_server(request: Request, response: Response, caller: Reader, id: str) -> ServerShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, Server, id, "server")
        tag(response, row)
        return show_server(request, row)


@router.patch("/servers/{id}", responses=answers(404, 409, 412, 428))
def change_server(
    request: Request, response: Response, caller: Operator, id: str, change: ServerChange, if_match: IfMatch = None
) -> ServerShown:
    """Take a server out of service, or put it back."""
    if change.drain_deadline_s is not None and change.state != "draining":
        raise ProblemError(422, "drain_deadline_s goes with state draining")
    with writing(request.app.state.engine) as session:
        row = fetch(session, Server, id, "server")
        check_match(if_match, row.revision)
        if row.state == ServerState.REVOKED:
            raise ProblemError(409, f"{row.name} was revoked: enrol it again with a ticket of its name")
        row.state = ServerState(change.state)
        row.drain_deadline = None
        if row.state == ServerState.DRAINING:
            seconds = change.drain_deadline_s
            if seconds is None:
                seconds = int(request.app.state.loop.ledger.settings.drain_deadline_s)
            row.drain_deadline = now() + timedelta(seconds=seconds)
        note_changes(session.connection(), [("server", id)])
        audit(session, request, caller, f"server {change.state}", id)
        session.flush()
        tag(response, row)
        shown = show_server(request, row)
    request.app.state.loop.wake()
    return shown


@router.delete("/servers/{id}", status_code=204, responses=answers(404, 412, 428))
def revoke_server(request: Request, caller: Operator, id: str, if_match: IfMatch = None) -> None:
    """Revoke a server's key: its leases end, it gets nowhere until it is enrolled again."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Server, id, "server")
        check_match(if_match, row.revision)
        row.state, row.drain_deadline = ServerState.REVOKED, None
        note_changes(session.connection(), [("server", id)])
        audit(session, request, caller, "server revoked", id, 204)
    request.app.state.loop.wake(keys=True)


@router.post("/servers/{id}/upgrade", status_code=202, responses=answers(404, 409))
def upgrade_server(request: Request, caller: Operator, id: str, wanted: UpgradeWanted) -> None:
    """Tell the daemon to install a version; its answer comes as an event `server.upgrade`."""
    order(request, caller, Server, id, ("upgrade", f"{id} {wanted.version}"), f"server upgrade to {wanted.version}")


@router.post("/servers/{id}/renew-key", status_code=202, responses=answers(404, 409))
def renew_server_key(request: Request, caller: Operator, id: str) -> None:
    """Have the daemon make a new key; the event `server.key-renewed` says when it is in use."""
    order(request, caller, Server, id, ("renew-key", id), "server key renewed")


def order(
    request: Request, caller: Caller, table: type[Server | Client], id_: str, change: tuple[str, str], action: str
) -> None:
    """An order to a server's daemon or a client's agent, carried out by the process that decides."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, table, id_, table.__tablename__)
        if not request.app.state.loop.presence.routes_of(id_):
            raise ProblemError(409, f"{row.name} is not connected")
        note_changes(session.connection(), [change])
        audit(session, request, caller, action, id_, 202)
    request.app.state.loop.wake()


@router.get("/gpus", responses=answers(), tags=["gpus"])
def list_gpus(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: GpuState | None = None,
    server: Words = None,
    name: Words = None,
) -> Page[GpuShown]:
    query = select(Gpu)
    if state:
        query = query.where(Gpu.state == state)
    if server is not None:
        query = query.where(Gpu.server_id == printable_or_422(server))
    if name is not None:
        query = query.where(Gpu.name.contains(printable_or_422(name), autoescape=True))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, Gpu.id, GpuShown.model_validate, limit=limit, cursor=cursor)


@router.get("/gpus/{id}", responses=answers(404), tags=["gpus"])
def get_gpu(request: Request, response: Response, caller: Reader, id: str) -> GpuShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, Gpu, id, "GPU")
        tag(response, row)
        return GpuShown.model_validate(row)


@router.patch("/gpus/{id}", responses=answers(404, 409, 412, 428), tags=["gpus"])
def change_gpu(
    request: Request, response: Response, caller: Operator, id: str, change: GpuChange, if_match: IfMatch = None
) -> GpuShown:
    """Take one GPU out of use for new leases, or trust it again."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Gpu, id, "GPU")
        check_match(if_match, row.revision)
        if row.state == GpuState.MISSING:
            raise ProblemError(409, f"{id} is not in its server's inventory; it comes back when the daemon reports it")
        row.state, row.state_reason = GpuState(change.state), change.reason
        row.revision += 1
        note_changes(session.connection(), [("gpu", id)])
        audit(session, request, caller, f"gpu {change.state}", id)
        session.flush()
        tag(response, row)
        shown = GpuShown.model_validate(row)
    request.app.state.loop.wake()
    return shown


@router.get("/slices", responses=answers(), tags=["slices"])
def list_slices(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: SliceState | None = None,
    lease: Words = None,
    server: Words = None,
    gpu: Words = None,
) -> Page[SliceShown]:
    """Slices, those of ended leases among them (`freed`)."""
    query = select(Slice)
    if state:
        query = query.where(Slice.state == state)
    for column, value in ((Slice.lease_id, lease), (Slice.server_id, server), (Slice.gpu_id, gpu)):
        if value is not None:
            query = query.where(column == printable_or_422(value))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, Slice.id, SliceShown.model_validate, limit=limit, cursor=cursor)
