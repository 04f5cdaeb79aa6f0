"""What happens and how things are: events, the live stream, the audit log, health, settings, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.orm import Session

from appliance import metrics
from appliance.api.paging import (
    Cursor,
    IfMatch,
    Limit,
    Page,
    audit,
    check_match,
    decode_cursor,
    encode_cursor,
    etag,
    one_page,
)
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import (
    ApplianceShown,
    AuditShown,
    CertificateShown,
    EventShown,
    Health,
    HealthAsked,
    InstanceShown,
    ReadingShown,
)
from appliance.api.security import Admin, Operator, Reader, identify
from appliance.api.servers import Words, printable_or_422
from appliance.backup import write_support_bundle
from appliance.books import note_changes
from appliance.certificates import described
from appliance.settings import SEALED, SECRETS, Settings, read_settings
from appliance.state.database import reading, writing
from appliance.state.models import Audit, Event, Gpu, Instance, Lease, LeaseState, Reading, Server, Setting

router = APIRouter()
LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
CHECK_TOKEN_S = 3.0
OVERLAP = 200
"""How many ids behind the newest are looked at again: on PostgreSQL a lower id may be committed after a higher one."""


def _contains(words: str, *columns: Any) -> ColumnElement[bool]:
    part = printable_or_422(words)
    return or_(*(each.icontains(part, autoescape=True) for each in columns))


@router.get("/events", responses=answers(), tags=["events"])
def list_events(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    kind: Annotated[str | None, Query(max_length=100, description="A kind, or the part of it before the dot")] = None,
    subject: Words = None,
    words: Annotated[str | None, Query(max_length=200, description="Part of the kind, subject or text")] = None,
) -> Page[EventShown]:
    """Newest first."""
    query = select(Event)
    if words is not None:
        query = query.where(_contains(words, Event.kind, Event.subject, Event.text))
    if kind is not None:
        wanted = printable_or_422(kind)
        query = query.where((Event.kind == wanted) | Event.kind.startswith(f"{wanted}.", autoescape=True))
    if subject is not None:
        query = query.where(Event.subject == printable_or_422(subject))
    with reading(request.app.state.engine) as session:
        return one_page(
            session, query, Event.id, EventShown.model_validate, limit=limit, cursor=cursor, newest_first=True
        )


@router.get(
    "/events/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **answers()},
    tags=["events"],
)
async def stream_events(
    request: Request,
    caller: Reader,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**53, description="Continue after this event")] = None,
    for_s: Annotated[float | None, Query(gt=0, le=86400, description="End the stream after so long")] = None,
) -> StreamingResponse:
    """Events as they happen (server-sent events); `id` is the event's, to continue after a break."""
    token = request.headers["authorization"].partition(" ")[2]
    return StreamingResponse(_follow(request, token, last_event_id, for_s), media_type="text/event-stream")


async def _follow(request: Request, token: str, after: int | None, for_s: float | None) -> AsyncIterator[str]:
    engine = request.app.state.engine

    def newest() -> int:
        with reading(engine) as session:
            return session.execute(select(func.max(Event.id))).scalar() or 0

    def since(last: int) -> list[EventShown]:
        with reading(engine) as session:
            rows = session.scalars(select(Event).where(Event.id > last).order_by(Event.id).limit(1000))
            return [EventShown.model_validate(row) for row in rows]

    start = await asyncio.to_thread(newest) if after is None else after
    last, sent = start, set[int]()
    end = time.monotonic() + for_s if for_s else None
    spoke, checked = 0.0, time.monotonic()
    while not await request.is_disconnected():
        for event in await asyncio.to_thread(since, max(start, last - OVERLAP)):
            if event.id not in sent:
                sent.add(event.id)
                last = max(last, event.id)
                spoke = time.monotonic()
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
        sent = {each for each in sent if each > last - OVERLAP}
        if time.monotonic() - spoke > KEEP_ALIVE_S:
            spoke = time.monotonic()
            yield ": still here\n\n"
        if end is not None and time.monotonic() >= end:
            return
        if time.monotonic() - checked > CHECK_TOKEN_S:
            checked = time.monotonic()
            try:
                await asyncio.to_thread(identify, engine, token)
            except ProblemError:
                return  # expired or revoked meanwhile: whoever asks again is told so
        await asyncio.sleep(LOOK_S)


@router.get("/audit", responses=answers(), tags=["audit"])
def list_audit(
    request: Request,
    caller: Admin,
    limit: Limit = 100,
    cursor: Cursor = None,
    subject: Words = None,
    words: Annotated[str | None, Query(max_length=200, description="Part of the actor, action or subject")] = None,
) -> Page[AuditShown]:
    """Every write, let through or not; newest first."""
    query = select(Audit)
    if words is not None:
        query = query.where(_contains(words, Audit.actor, Audit.action, Audit.subject))
    if subject is not None:
        query = query.where(Audit.subject == printable_or_422(subject))
    with reading(request.app.state.engine) as session:
        return one_page(
            session, query, Audit.id, AuditShown.model_validate, limit=limit, cursor=cursor, newest_first=True
        )


@router.get("/health", responses=answers(), tags=["health"])
def list_health(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[str | None, Query(pattern="^(ok|warning|failed|unknown)$")] = None,
    subject: Annotated[str | None, Query(max_length=200, description="A server, client or GPU of a server")] = None,
    words: Annotated[str | None, Query(max_length=200, description="Part of the subject, check or value")] = None,
) -> Page[ReadingShown]:
    """The last result of every check: value, threshold, what it means and what to do."""
    query = select(Reading)
    if words is not None:
        query = query.where(_contains(words, Reading.subject, Reading.check, Reading.value))
    if state:
        query = query.where(Reading.state == state)
    if subject is not None:
        wanted = printable_or_422(subject)
        query = query.where((Reading.subject == wanted) | Reading.subject.startswith(f"{wanted}/", autoescape=True))
    if cursor is not None:
        last = decode_cursor(cursor).rsplit(" ", 1)
        if len(last) != 2:
            raise ProblemError(422, "the cursor is not one of this list")
        query = query.where(tuple_(Reading.subject, Reading.check) > tuple_(*last))
    with reading(request.app.state.engine) as session:
        rows = session.scalars(query.order_by(Reading.subject, Reading.check).limit(limit + 1)).all()
        following = f"{rows[limit - 1].subject} {rows[limit - 1].check}" if len(rows) > limit else None
        items = [ReadingShown.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next=encode_cursor(following) if following else None)


@router.get(
    "/support-bundle",
    response_class=Response,
    responses={200: {"content": {"application/gzip": {}}}, **answers()},
    tags=["appliance"],
)
def get_support_bundle(request: Request, caller: Admin) -> Response:
    """What somebody who helps needs to know, as .tar.gz, without secrets."""
    state = request.app.state
    with tempfile.TemporaryDirectory(prefix="gpuferry-support-") as folder:
        path = Path(folder) / "bundle.tar.gz"
        write_support_bundle(state.site, state.engine, path, [])
        return Response(path.read_bytes(), media_type="application/gzip")


@router.post("/health/check", status_code=202, responses=answers(404), tags=["health"])
def check_health(
    request: Request,
    caller: Operator,
    subject: Annotated[str | None, Query(max_length=200, description="A server or client; default: all")] = None,
) -> HealthAsked:
    """Ask daemons and agents to measure now; their readings follow in a moment."""
    wanted = printable_or_422(subject) if subject is not None else None
    presence = request.app.state.loop.presence
    if wanted is not None and not presence.routes_of(wanted):
        raise ProblemError(404, f"{wanted} is not connected to this appliance process")
    with writing(request.app.state.engine) as session:
        audit(session, request, caller, "health checked", wanted or "everything", 202)
    return HealthAsked(asked=request.app.state.loop.ask_to_observe(wanted))


def _settings_tag(settings: Settings) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]


@router.get("/settings", responses=answers(), tags=["settings"])
def get_settings(request: Request, response: Response, caller: Reader) -> Settings:
    with reading(request.app.state.engine) as session:
        settings = read_settings(session)
    response.headers["ETag"] = etag(_settings_tag(settings))
    return settings


@router.patch("/settings", responses=answers(412, 428), tags=["settings"])
def change_settings(
    request: Request, response: Response, caller: Admin, change: dict[str, Any], if_match: IfMatch = None
) -> Settings:
    """Change some settings; those left out stay, null takes one back to its default."""
    with writing(request.app.state.engine) as session:
        before = read_settings(session)
        check_match(if_match, _settings_tag(before))
        wanted = {**before.model_dump(), **change}
        try:
            after = Settings.model_validate({key: value for key, value in wanted.items() if value is not None})
        except ValidationError as wrong:
            text = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors())
            raise ProblemError(422, text) from None
        for key in change:
            row = session.get(Setting, key) or Setting(key=key, value={}, revision=0)
            value: dict[str, Any] = {"value": getattr(after, key)}
            if key in SECRETS and value["value"] == SEALED:
                continue
            if key in SECRETS and value["value"]:
                value = {"value": SEALED, "sealed": request.app.state.site.seal(value["value"])}
            row.value, row.revision = value, row.revision + 1
            session.add(row)
        note_changes(session.connection(), [("setting", key) for key in change] or [("setting", "")])
        audit(session, request, caller, "settings changed", ", ".join(sorted(change))[:500])
        session.flush()
        after = read_settings(session)
    request.app.state.loop.wake()
    response.headers["ETag"] = etag(_settings_tag(after))
    return after


@router.get("/appliance", responses=answers(), tags=["appliance"])
def get_appliance(request: Request, caller: Reader) -> ApplianceShown:
    """The appliance itself, and the pool in numbers."""
    loop, site = request.app.state.loop, request.app.state.site

    def count(session: Session, query: Any) -> int:
        return int(session.execute(query).scalar() or 0)

    with reading(request.app.state.engine) as session:
        instances = session.scalars(select(Instance).order_by(Instance.id)).all()
        return ApplianceShown(
            version=request.app.version,
            control_key=site.curve_public,
            control_endpoint=site.config.control_endpoint,
            enrol_endpoint=site.config.enrol_endpoint,
            deciding=loop.leading,
            epoch=loop.office.epoch,
            trouble=loop.trouble,
            instances=[InstanceShown.model_validate(row) for row in instances],
            servers=count(session, select(func.count(Server.id))),
            gpus=count(session, select(func.count(Gpu.id))),
            memory_mib=count(session, select(func.sum(Gpu.memory_mib))),
            reserved_mib=count(session, select(func.sum(Gpu.reserved_mib))),
            leases=count(session, select(func.count(Lease.id)).where(Lease.state != LeaseState.ENDED)),
            waiting=count(session, select(func.count(Lease.id)).where(Lease.state == LeaseState.QUEUED)),
        )


@router.get("/certificates", responses=answers(), tags=["appliance"])
def list_certificates(request: Request, caller: Reader) -> list[CertificateShown]:
    """The site's authority and the certificate of this API; none where TLS is off."""
    site = request.app.state.site
    return [CertificateShown.model_validate(each) for each in described(site.folder)] if site.config.tls else []


open_router = APIRouter(tags=["appliance"])


@open_router.get("/healthz", responses={503: {"model": Health, "description": "In trouble"}})
def healthz(request: Request) -> Response:
    """Whether this process can do its work; needs no token and says nothing about the site."""
    trouble = request.app.state.loop.trouble
    body = Health(status="trouble" if trouble else "ok", detail="see the log" if trouble else "")
    return JSONResponse(body.model_dump(), 503 if trouble else 200)


@open_router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **answers()})
def prometheus(caller: Reader) -> Response:
    """For Prometheus; a token of scope read."""
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)
