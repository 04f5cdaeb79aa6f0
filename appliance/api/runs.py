"""Provisioning runs: start one, watch it, cancel, retry, roll back; the host keys of the machines they deploy to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page
from appliance.api.paging import tag as tag_of
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import HostKeyConfirmed, HostKeyShown, RunShown, RunWanted, SshKeyShown, StepShown
from appliance.api.security import Admin, Operator, Reader
from appliance.api.servers import Words, printable_or_422
from appliance.ids import new_id
from appliance.runs import record
from appliance.runs.carrying import dry_run
from appliance.runs.guest import ensure_key
from appliance.runs.kinds import FINAL, KINDS, Kind, new_run
from appliance.runs.parameters import Parameters
from appliance.runs.step import RunError
from appliance.state.database import reading, writing
from appliance.state.models import HostKey, Run, RunState, RunStep, StepState, VCenter, now

router = APIRouter(tags=["runs"])


def shown(run: Run, steps: Sequence[RunStep]) -> RunShown:
    facts = {name: getattr(run, name) for name in RunShown.model_fields if name != "steps"}
    return RunShown(**facts, steps=[StepShown.model_validate(each) for each in steps])


def _one(request: Request, response: Response, session: Session, id: str) -> RunShown:
    run = fetch(session, Run, id, "run")
    tag_of(response, run)
    return shown(run, record.steps_of(session, id))


def _understood(wanted: RunWanted) -> tuple[Kind, Parameters]:
    kind = KINDS.get(wanted.kind)
    if kind is None:
        raise ProblemError(422, f"kind: there is no kind {wanted.kind!r}; there are {', '.join(sorted(KINDS))}")
    try:
        return kind, kind.parameters.model_validate(wanted.parameters)
    except ValidationError as wrong:
        said = [f"parameters.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors()]
        raise ProblemError(422, "; ".join(said)[:2000]) from None


def _known_vcenter(session: Session, parameters: Any) -> Parameters:
    """The parameters with the vCenter's name, where its id was given. A vCenter that is not there is refused."""
    name = getattr(parameters, "vcenter", "")
    if not name:
        return parameters  # type: ignore[no-any-return]
    row = session.scalars(select(VCenter).where((VCenter.name == name) | (VCenter.id == name))).first()
    if row is None:
        raise ProblemError(422, f"parameters.vcenter: there is no vCenter {name!r}: add it with POST /v1/vcenters")
    return parameters.model_copy(update={"vcenter": row.name})  # type: ignore[no-any-return]


@router.post("/runs", status_code=202, responses={200: {"model": RunShown, "description": "A dry run"}, **answers(409)})
def start_run(request: Request, response: Response, caller: Operator, wanted: RunWanted) -> RunShown:
    """Start a run; it is carried out in the background. A dry run starts nothing: each step says what it found and
    would do.
    """
    kind, parameters = _understood(wanted)
    engine, ground = request.app.state.engine, request.app.state.runs.ground
    actor, trace = f"{caller.name} ({caller.token})", request.state.trace
    with reading(engine) as session:
        parameters = _known_vcenter(session, parameters)
    try:
        new = new_run(kind, parameters, ground)
    except RunError as wrong:
        raise ProblemError(422, f"{wrong.what}: {wrong.remedy}") from None
    if wanted.dry_run:
        run = Run(
            **{name: getattr(new, name) for name in ("kind", "subject", "vcenter", "key", "sealed")},
            **{"id": new_id("dry"), "parameters": dict(new.parameters), "facts": {}, "state": RunState.QUEUED},
            **{"actor": actor, "created_at": now(), "revision": 0, "error": "", "remedy": ""},
        )
        steps = [
            RunStep(
                **{"ordinal": ordinal, "name": name, "title": title, "targets": list(targets), "found": "", "did": ""},
                **{"state": StepState.PENDING, "attempts": 0, "log": []},
            )
            for ordinal, (name, title, targets) in enumerate(new.steps)
        ]
        dry_run(ground, run, steps)
        response.status_code = 200
        return shown(run, steps)
    with writing(engine) as session:
        run = record.add(session, new, actor, trace)
        audit(session, request, caller, f"run {kind.name} of {new.subject}"[:200], run.id, 202)
        session.flush()
        answer = _one(request, response, session, run.id)
    request.app.state.runs.wake()
    response.headers["Location"] = f"/v1/runs/{answer.id}"
    return answer


@router.get("/runs", responses=answers())
def list_runs(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[list[RunState] | None, Query(description="Any of these")] = None,
    kind: Words = None,
    subject: Annotated[str | None, Query(max_length=200, description="What it is about, or a part of that")] = None,
) -> Page[RunShown]:
    """Newest first, each with its steps."""
    query = select(Run)
    if state:
        query = query.where(Run.state.in_(state))
    if kind is not None:
        query = query.where(Run.kind == printable_or_422(kind))
    if subject is not None:
        query = query.where(Run.subject.contains(printable_or_422(subject), autoescape=True))
    with reading(request.app.state.engine) as session:
        page = one_page(session, query, Run.id, lambda row: row, limit=limit, cursor=cursor, newest_first=True)
        ids = [row.id for row in page.items]
        steps: dict[str, list[RunStep]] = {id_: [] for id_ in ids}
        for each in session.scalars(select(RunStep).where(RunStep.run_id.in_(ids)).order_by(RunStep.ordinal)):
            steps[each.run_id].append(each)
        return Page(items=[shown(row, steps[row.id]) for row in page.items], next=page.next)


@router.get("/runs/{id}", responses=answers(404))
def get_run(request: Request, response: Response, caller: Reader, id: str) -> RunShown:
    with reading(request.app.state.engine) as session:
        return _one(request, response, session, id)


def _ask(request: Request, response: Response, caller: Any, id: str, what: str, action: Any) -> RunShown:
    with writing(request.app.state.engine) as session:
        run = fetch(session, Run, id, "run")
        try:
            action(session, run)
        except record.NotNowError as wrong:
            raise ProblemError(409, str(wrong)) from None
        audit(session, request, caller, f"run {what}", id)
        session.flush()
        session.expire_all()
        answer = _one(request, response, session, id)
    request.app.state.runs.wake()
    return answer


@router.post("/runs/{id}/cancel", responses=answers(404, 409))
def cancel_run(request: Request, response: Response, caller: Operator, id: str) -> RunShown:
    """Stop it at its next safe place; what it did stays. Roll it back to take that back."""
    return _ask(request, response, caller, id, "cancelled", record.ask_cancel)


@router.post("/runs/{id}/retry", responses=answers(404, 409))
def retry_run(request: Request, response: Response, caller: Operator, id: str) -> RunShown:
    """Carry it out again: every step looks anew, and does what is missing."""
    return _ask(request, response, caller, id, "retried", record.ask_retry)


@router.post("/runs/{id}/roll-back", responses=answers(404, 409))
def roll_back_run(request: Request, response: Response, caller: Operator, id: str) -> RunShown:
    """Take back what it did, from the last step to the first."""
    return _ask(request, response, caller, id, "rolled back", partial(record.ask_roll_back, final=FINAL))


@router.get("/ssh-key", responses=answers(), tags=["host-keys"])
def get_ssh_key(request: Request, caller: Reader) -> SshKeyShown:
    """The public half of the key with which the appliance logs in: for `authorized_keys` of its machines."""
    return SshKeyShown(public_key=ensure_key(request.app.state.runs.ground))


@router.get("/host-keys", responses=answers(), tags=["host-keys"])
def list_host_keys(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    confirmed: bool | None = None,
    target: Words = None,
) -> Page[HostKeyShown]:
    """The SSH host keys of machines that were deployed to, or wait for somebody who confirms their key."""
    query = select(HostKey)
    if confirmed is not None:
        query = query.where(HostKey.confirmed_at.is_not(None) if confirmed else HostKey.confirmed_at.is_(None))
    if target is not None:
        query = query.where(HostKey.target.contains(printable_or_422(target), autoescape=True))
    with reading(request.app.state.engine) as session:
        return one_page(session, query, HostKey.id, HostKeyShown.model_validate, limit=limit, cursor=cursor)


@router.post("/host-keys/{id}/confirm", responses=answers(404, 409), tags=["host-keys"])
def confirm_host_key(
    request: Request, response: Response, caller: Operator, id: str, given: HostKeyConfirmed
) -> HostKeyShown:
    """Trust a machine's key: the fingerprint is the one you have compared. Runs that failed for want of it go on."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, HostKey, id, "host key")
        if given.fingerprint.strip() != row.fingerprint:
            raise ProblemError(409, f"the fingerprint of {row.target} is {row.fingerprint}, not the one you sent")
        if row.confirmed_at is None:
            row.confirmed_at, row.confirmed_by = now(), caller.name
        audit(session, request, caller, f"host key of {row.target} confirmed", id)
        for run in session.scalars(select(Run).where(Run.state == RunState.FAILED)):
            if run.facts.get("failure", {}).get("waits_for") == id:
                record.ask_retry(session, run)
        session.flush()
        tag_of(response, row)
        answer = HostKeyShown.model_validate(row)
    request.app.state.runs.wake()
    return answer


@router.delete("/host-keys/{id}", status_code=204, responses=answers(404, 412, 428), tags=["host-keys"])
def forget_host_key(request: Request, caller: Admin, id: str, if_match: IfMatch = None) -> None:
    """Forget a key, e.g. of a machine that was installed anew; the next one is shown for confirmation."""
    with writing(request.app.state.engine) as session:
        row = fetch(session, HostKey, id, "host key")
        check_match(if_match, row.revision)
        session.delete(row)
        audit(session, request, caller, f"host key of {row.target} forgotten", id, 204)
