"""Bearer tokens and their scopes.

    read       everything but secrets, nothing to change
    client     the leases of one client: ask, see, release
    operator   read, and leases of everybody, servers, GPUs, clients, groups
    admin      everything: tokens, enrolments, vCenters, settings, the audit log

Tokens are 256 random bits; the database keeps their SHA-256 only, so it can be read without learning one.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine, select

from appliance.api.problems import ProblemError
from appliance.ids import new_id
from appliance.peers import digest
from appliance.state.database import reading, writing
from appliance.state.models import ApiToken, now

PREFIX = "gft_"
bearer = HTTPBearer(auto_error=False, description="A token made by `gpuferry appliance token` or POST /v1/tokens")


class Scope(enum.StrEnum):
    READ = "read"
    CLIENT = "client"
    OPERATOR = "operator"
    ADMIN = "admin"


GIVES = {
    Scope.READ: {Scope.READ},
    Scope.CLIENT: {Scope.CLIENT},
    Scope.OPERATOR: {Scope.READ, Scope.CLIENT, Scope.OPERATOR},
    Scope.ADMIN: set(Scope),
}


@dataclass(frozen=True)
class Caller:
    """Who asks. `client` is set for tokens of scope `client`: whose leases they are about."""

    token: str
    name: str
    scope: Scope
    client: str | None

    def may(self, scope: Scope) -> bool:
        return scope in GIVES[self.scope]


def issue(
    engine: Engine, name: str, scope: Scope, *, client: str | None = None, expires_at: datetime | None = None
) -> tuple[str, str]:
    """Make a token; returns its id and the token itself, which nobody can read again."""
    token, id_ = PREFIX + secrets.token_urlsafe(32), new_id("token")
    with writing(engine) as session:
        session.add(
            ApiToken(id=id_, name=name, digest=digest(token), scope=scope, client_id=client, expires_at=expires_at)
        )
    return id_, token


def identify(engine: Engine, token: str) -> Caller:
    """Whose token it is. Raises ProblemError 401 for one that is unknown, expired or revoked."""
    challenge = {"WWW-Authenticate": 'Bearer realm="gpuferry"'}
    with reading(engine) as session:
        row = session.scalars(select(ApiToken).where(ApiToken.digest == digest(token))).one_or_none()
    if row is None:
        raise ProblemError(401, "this token is not known here: make one with `gpuferry appliance token`", challenge)
    if row.revoked_at is not None:
        raise ProblemError(401, f"this token was revoked at {row.revoked_at:%Y-%m-%d %H:%M} UTC", challenge)
    if row.expires_at is not None and row.expires_at <= now():
        raise ProblemError(401, f"this token expired at {row.expires_at:%Y-%m-%d %H:%M} UTC: make a new one", challenge)
    return Caller(row.id, row.name, Scope(row.scope), row.client_id)


def needs(*scopes: Scope) -> Callable[..., Caller]:
    """A dependency: the caller, whose token must give one of `scopes`."""

    def check(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
        if given is None:
            raise ProblemError(
                401, "send a token: `Authorization: Bearer gft_...`", {"WWW-Authenticate": 'Bearer realm="gpuferry"'}
            )
        caller = identify(request.app.state.engine, given.credentials)
        request.state.caller = caller
        if not any(caller.may(scope) for scope in scopes):
            wanted = " or ".join(scopes)
            raise ProblemError(403, f"the token {caller.name!r} has scope {caller.scope}; this needs {wanted}")
        return caller

    return check


def depends(*scopes: Scope) -> Any:
    return Depends(needs(*scopes))


Reader = Annotated[Caller, depends(Scope.READ)]
Operator = Annotated[Caller, depends(Scope.OPERATOR)]
Admin = Annotated[Caller, depends(Scope.ADMIN)]
ReaderOrClient = Annotated[Caller, depends(Scope.READ, Scope.CLIENT)]
OperatorOrClient = Annotated[Caller, depends(Scope.OPERATOR, Scope.CLIENT)]
