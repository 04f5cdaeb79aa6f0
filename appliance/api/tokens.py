"""API tokens and enrolment tickets. Both are shown once, when they are made."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page, tag
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import (
    EnrolmentMade,
    EnrolmentShown,
    EnrolmentWanted,
    TokenMade,
    TokenShown,
    TokenWanted,
)
from appliance.api.security import Admin, Scope, issue
from appliance.peers import new_enrolment_token
from appliance.state.database import reading, writing
from appliance.state.models import ApiToken, Client, EnrolmentToken, ServerState, now
from gpuserver.protocol.control.curve import Ticket

router = APIRouter()


@router.get("/tokens", responses=answers(), tags=["tokens"])
def list_tokens(request: Request, caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[TokenShown]:
    with reading(request.app.state.engine) as session:
        show = TokenShown.model_validate
        return one_page(session, select(ApiToken), ApiToken.id, show, limit=limit, cursor=cursor)


@router.post("/tokens", status_code=201, responses=answers(404), tags=["tokens"])
def make_token(request: Request, response: Response, caller: Admin, wanted: TokenWanted) -> TokenMade:
    scope = Scope(wanted.scope)
    if (scope == Scope.CLIENT) != (wanted.client is not None):
        raise ProblemError(422, "client: a token of scope client names its client, others do not")
    engine = request.app.state.engine
    if wanted.client is not None:
        with reading(engine) as session:
            fetch(session, Client, wanted.client, "client")
    expires_at = now() + timedelta(seconds=wanted.valid_s) if wanted.valid_s else None
    id_, token = issue(engine, wanted.name, scope, client=wanted.client, expires_at=expires_at)
    with writing(engine) as session:
        row = session.get_one(ApiToken, id_)
        audit(session, request, caller, f"token made with scope {scope}", id_, 201)
        tag(response, row)
        response.headers["Location"] = f"/v1/tokens/{id_}"
        return TokenMade(token=token, **TokenShown.model_validate(row).model_dump())


@router.get("/tokens/{id}", responses=answers(404), tags=["tokens"])
def get_token(request: Request, response: Response, caller: Admin, id: str) -> TokenShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, ApiToken, id, "token")
        tag(response, row)
        return TokenShown.model_validate(row)


@router.delete("/tokens/{id}", status_code=204, responses=answers(404, 412, 428), tags=["tokens"])
def revoke_token(request: Request, caller: Admin, id: str, if_match: IfMatch = None) -> None:
    with writing(request.app.state.engine) as session:
        row = fetch(session, ApiToken, id, "token")
        check_match(if_match, row.revision)
        row.revoked_at = row.revoked_at or now()
        audit(session, request, caller, "token revoked", id, 204)


@router.get("/enrolments", responses=answers(), tags=["enrolments"])
def list_enrolments(request: Request, caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[EnrolmentShown]:
    """Tickets that were made, used and unused; not the tickets themselves."""
    with reading(request.app.state.engine) as session:
        show = EnrolmentShown.model_validate
        return one_page(session, select(EnrolmentToken), EnrolmentToken.id, show, limit=limit, cursor=cursor)


@router.post("/enrolments", status_code=201, responses=answers(404), tags=["enrolments"])
def make_enrolment(request: Request, caller: Admin, wanted: EnrolmentWanted) -> EnrolmentMade:
    """A ticket with which one daemon or agent enrols, once."""
    engine, site = request.app.state.engine, request.app.state.site
    try:
        token = new_enrolment_token(
            engine,
            wanted.role,
            name=wanted.name.strip(),
            group=wanted.group,
            begins=ServerState(wanted.begins),
            valid_s=wanted.valid_s,
        )
    except ValueError as wrong:
        raise ProblemError(404, str(wrong)) from None
    with writing(engine) as session:
        audit(session, request, caller, f"enrolment ticket for a {wanted.role}", wanted.name, 201)
    ticket = Ticket(site.config.enrol_endpoint, site.curve_public, token)
    return EnrolmentMade(ticket=str(ticket), expires_in_s=wanted.valid_s)
