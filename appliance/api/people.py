"""Clients and the groups they belong to: quotas, weights, priorities, revocation."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page, tag
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import ClientChange, ClientShown, GroupChange, GroupShown, GroupWanted, UpgradeWanted
from appliance.api.security import Operator, Reader
from appliance.api.servers import Words, order, printable_or_422
from appliance.books import note_changes
from appliance.ids import new_id
from appliance.peers import DEFAULT_GROUP
from appliance.state.database import reading, writing
from appliance.state.models import Client, Group, now

router = APIRouter()


@router.get("/clients", responses=answers(), tags=["clients"])
def list_clients(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    group: Words = None,
    name: Words = None,
    revoked: bool | None = None,
) -> Page[ClientShown]:
    query = select(Client)
    if group is not None:
        query = query.where(Client.group_id == printable_or_422(group))
    if name is not None:
        query = query.where(Client.name.contains(printable_or_422(name), autoescape=True))
    if revoked is not None:
        query = query.where(Client.revoked_at.is_not(None) if revoked else Client.revoked_at.is_(None))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, Client.id, ClientShown.model_validate, limit=limit, cursor=cursor)


@router.get("/clients/{id}", responses=answers(404), tags=["clients"])
def get_client(request: Request, response: Response, caller: Reader, id: str) -> ClientShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, Client, id, "client")
        tag(response, row)
        return ClientShown.model_validate(row)


@router.patch("/clients/{id}", responses=answers(404, 412, 428), tags=["clients"])
def change_client(
    request: Request, response: Response, caller: Operator, id: str, change: ClientChange, if_match: IfMatch = None
) -> ClientShown:
    """Change a client's group, quotas or priority."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Client, id, "client")
        check_match(if_match, row.revision)
        given = change.model_dump(exclude_unset=True)
        if given.get("group_id") is not None:
            fetch(session, Group, given["group_id"], "group")
        for name, value in given.items():
            if value is not None or name.startswith("max_"):
                setattr(row, name, value)
        note_changes(session.connection(), [("client", id)])
        audit(session, request, caller, "client changed", id)
        session.flush()
        tag(response, row)
        shown = ClientShown.model_validate(row)
    request.app.state.loop.wake()
    return shown


@router.delete("/clients/{id}", status_code=204, responses=answers(404, 412, 428), tags=["clients"])
def revoke_client(request: Request, caller: Operator, id: str, if_match: IfMatch = None) -> None:
    """Revoke a client's key: its leases end, it gets nowhere until it is enrolled again."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Client, id, "client")
        check_match(if_match, row.revision)
        row.revoked_at = row.revoked_at or now()
        note_changes(session.connection(), [("client", id)])
        audit(session, request, caller, "client revoked", id, 204)
    request.app.state.loop.wake(keys=True)


@router.post("/clients/{id}/upgrade", status_code=202, responses=answers(404, 409), tags=["clients"])
def upgrade_client(request: Request, caller: Operator, id: str, wanted: UpgradeWanted) -> None:
    """Tell the agent to install a version; its answer comes as an event `client.upgrade`. Its leases go on."""
    order(request, caller, Client, id, ("upgrade", f"{id} {wanted.version}"), f"client upgrade to {wanted.version}")


@router.post("/clients/{id}/renew-key", status_code=202, responses=answers(404, 409), tags=["clients"])
def renew_client_key(request: Request, caller: Operator, id: str) -> None:
    """Have the agent make a new key; the event `client.key-renewed` says when it is in use."""
    order(request, caller, Client, id, ("renew-key", id), "client key renewed")


@router.get("/groups", responses=answers(), tags=["groups"])
def list_groups(
    request: Request, caller: Reader, limit: Limit = 100, cursor: Cursor = None, name: Words = None
) -> Page[GroupShown]:
    query = select(Group)
    if name is not None:
        query = query.where(Group.name.contains(printable_or_422(name), autoescape=True))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, Group.id, GroupShown.model_validate, limit=limit, cursor=cursor)


@router.post("/groups", status_code=201, responses=answers(409), tags=["groups"])
def make_group(request: Request, response: Response, caller: Operator, wanted: GroupWanted) -> GroupShown:
    with writing(request.app.state.engine) as session:
        row = Group(id=new_id("group"), **wanted.model_dump())
        session.add(row)
        audit(session, request, caller, "group made", row.id, 201)
        session.flush()
        tag(response, row)
        response.headers["Location"] = f"/v1/groups/{row.id}"
        return GroupShown.model_validate(row)


@router.get("/groups/{id}", responses=answers(404), tags=["groups"])
def get_group(request: Request, response: Response, caller: Reader, id: str) -> GroupShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, Group, id, "group")
        tag(response, row)
        return GroupShown.model_validate(row)


@router.patch("/groups/{id}", responses=answers(404, 409, 412, 428), tags=["groups"])
def change_group(
    request: Request, response: Response, caller: Operator, id: str, change: GroupChange, if_match: IfMatch = None
) -> GroupShown:
    """Change a group's quotas, weight or priority; leases that are held stay."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Group, id, "group")
        check_match(if_match, row.revision)
        for name, value in change.model_dump(exclude_unset=True).items():
            if value is not None or name.startswith("max_") or name == "idle_after_s":
                setattr(row, name, value)
        note_changes(session.connection(), [("group", id)])
        audit(session, request, caller, "group changed", id)
        session.flush()
        tag(response, row)
        shown = GroupShown.model_validate(row)
    request.app.state.loop.wake()
    return shown


@router.delete("/groups/{id}", status_code=204, responses=answers(404, 409, 412, 428), tags=["groups"])
def remove_group(request: Request, caller: Operator, id: str, if_match: IfMatch = None) -> None:
    """Remove a group that has no clients."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, Group, id, "group")
        check_match(if_match, row.revision)
        if row.name == DEFAULT_GROUP:
            raise ProblemError(409, "the default group stays: new clients enrol into it")
        members = session.scalars(select(Client.name).where(Client.group_id == id).limit(4)).all()
        if members:
            raise ProblemError(409, f"{row.name} still has clients ({', '.join(members)}): move them first")
        session.delete(row)
        audit(session, request, caller, "group removed", id, 204)
