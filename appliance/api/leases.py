"""Leases: who holds or waits for what; asking for one and giving it back without a client agent."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import or_, select

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page, tag
from appliance.api.problems import ProblemError, answers, not_found
from appliance.api.schemas import AccessShown, LeaseShown, LeaseWanted, SliceShown
from appliance.api.security import Caller, OperatorOrClient, ReaderOrClient, Scope
from appliance.api.servers import Words, printable_or_422
from appliance.books import note_changes
from appliance.filters import FilterError, parse_filters
from appliance.ids import new_id
from appliance.placement import RequestError, Shape
from appliance.state.database import reading, writing
from appliance.state.models import Client, Group, Lease, LeaseState, Server, Slice, SliceState

router = APIRouter(tags=["leases"])
LOOK_S = 0.05


def check_owner(caller: Caller, row: Lease) -> None:
    """A token of scope `client` sees its own leases only; to it, others do not exist."""
    if caller.scope == Scope.CLIENT and row.client_id != caller.client:
        raise not_found("lease", row.id)


@router.get("/leases", responses=answers())
def list_leases(
    request: Request,
    caller: ReaderOrClient,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[list[LeaseState] | None, Query(description="Any of these")] = None,
    client: Words = None,
    words: Annotated[str | None, Query(max_length=200, description="Part of an id, program or client's name")] = None,
    newest: Annotated[bool, Query(description="Newest first")] = False,
) -> Page[LeaseShown]:
    query = select(Lease)
    if words is not None:
        part = printable_or_422(words)
        owners = select(Client.id).where(Client.name.icontains(part, autoescape=True))
        matches = (each.icontains(part, autoescape=True) for each in (Lease.id, Lease.program))
        query = query.where(or_(Lease.client_id.in_(owners), *matches))
    if state:
        query = query.where(Lease.state.in_(state))
    if client is not None:
        query = query.where(Lease.client_id == printable_or_422(client))
    if caller.scope == Scope.CLIENT:
        query = query.where(Lease.client_id == caller.client)
    with reading(request.app.state.engine) as session:
        show = LeaseShown.model_validate
        return one_page(session, query, Lease.id, show, limit=limit, cursor=cursor, newest_first=newest)


@router.get("/leases/{id}", responses=answers(404))
def get_lease(request: Request, response: Response, caller: ReaderOrClient, id: str) -> LeaseShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, Lease, id, "lease")
        check_owner(caller, row)
        tag(response, row)
        return LeaseShown.model_validate(row)


@router.post("/leases", status_code=201, responses=answers(404, 409))
def request_lease(
    request: Request,
    response: Response,
    caller: OperatorOrClient,
    wanted: LeaseWanted,
    wait_s: Annotated[float, Query(ge=0, le=60, description="Wait so long for it to be granted")] = 2.0,
) -> LeaseShown:
    """Ask for a lease. It is answered as soon as it is granted or refused, or after `wait_s` as it stands then."""
    client = wanted.client or caller.client
    if caller.scope == Scope.CLIENT and client != caller.client:
        raise ProblemError(403, "this token asks for leases of its own client only")
    if client is None:
        raise ProblemError(422, "client: name whose lease it shall be")
    try:
        filters = parse_filters(wanted.filters)
        Shape(wanted.gpus, wanted.memory_mib, wanted.fraction, wanted.compute, filters)
    except (FilterError, RequestError) as wrong:
        raise ProblemError(422, str(wrong)) from None
    with writing(request.app.state.engine) as session:
        owner = fetch(session, Client, client, "client")
        if owner.revoked_at is not None:
            raise ProblemError(409, f"the enrolment of {owner.name} was revoked")
        known = session.scalars(
            select(Lease).where(Lease.client_id == client, Lease.request == (wanted.request or ""))
        ).one_or_none()
        if known is None:
            group = session.get_one(Group, owner.group_id)
            priority = wanted.priority if caller.may(Scope.OPERATOR) else min(wanted.priority, 0)
            known = Lease(
                id=new_id("lease"),
                client_id=client,
                request=wanted.request or new_id("request"),
                state=LeaseState.QUEUED,
                gpus=wanted.gpus,
                memory_mib=wanted.memory_mib,
                fraction=wanted.fraction,
                compute=wanted.compute,
                filters=[str(each) for each in filters],
                priority=group.priority + owner.priority + priority,
                keeper=wanted.keeper,
                program=wanted.program,
                trace=request.state.trace,
                timeout_s=wanted.timeout_s or None,
                duration_s=wanted.duration_s or None,
                queued_at=datetime.now(UTC),
            )
            session.add(known)
            session.flush()
            note_changes(session.connection(), [("lease", known.id)])
            audit(session, request, caller, "lease requested", known.id, 201)
        lease = known.id
    request.app.state.loop.wake()
    deadline = time.monotonic() + wait_s
    while True:
        with reading(request.app.state.engine) as session:
            row = session.get_one(Lease, lease)
        if row.state in (LeaseState.ACTIVE, LeaseState.ENDED) or time.monotonic() >= deadline:
            response.headers["Location"] = f"/v1/leases/{lease}"
            tag(response, row)
            return LeaseShown.model_validate(row)
        time.sleep(LOOK_S)


@router.delete("/leases/{id}", status_code=202, responses=answers(404, 412, 428))
def release_lease(request: Request, caller: OperatorOrClient, id: str, if_match: IfMatch = None) -> None:
    """End a lease: its programs lose their GPUs, its memory returns to the pool. Ending it again does nothing."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Lease, id, "lease")
        check_owner(caller, row)
        check_match(if_match, row.revision)
        if row.state != LeaseState.ENDED:
            row.release_requested = True
            row.reason = f"released by {caller.name}"
            note_changes(session.connection(), [("lease", id)])
        audit(session, request, caller, "lease released", id, 202)
    request.app.state.loop.wake()


@router.get("/leases/{id}/access", responses=answers(404, 409))
def get_access(request: Request, caller: OperatorOrClient, id: str) -> list[AccessShown]:
    """Where the slices are and the secrets that open them; only while the lease is active."""
    with reading(request.app.state.engine) as session:
        row = fetch(session, Lease, id, "lease")
        check_owner(caller, row)
        if row.state != LeaseState.ACTIVE:
            raise ProblemError(409, f"{id} is {row.state}; {row.reason or 'only active leases can be used'}")
        query = select(Slice).where(Slice.lease_id == id, Slice.state == SliceState.PREPARED).order_by(Slice.ordinal)
        slices = session.scalars(query).all()
        made: dict[str, AccessShown] = {}
        for each in slices:
            if each.server_id not in made:
                secret = request.app.state.site.session_secret(id, each.server_id, each.fence)
                address = session.get_one(Server, each.server_id).address
                made[each.server_id] = AccessShown(server_id=each.server_id, address=address, secret=secret, slices=[])
            made[each.server_id].slices.append(SliceShown.model_validate(each))
        return list(made.values())
