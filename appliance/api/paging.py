"""Lists in pages, ETags, and writes that must say which version they change.

A page is continued by an opaque cursor, which is the last row's id: rows made meanwhile neither shift nor repeat any.
An ETag covers what can be written of a resource; live numbers beside it (reserved memory, last sign of life) do not
change it, so that an operator's change is not refused because a lease came.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Header, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.orm import Session

from appliance.api.problems import ProblemError, not_found
from appliance.api.security import Caller
from appliance.state.models import Audit, Base

Item = TypeVar("Item")
Row = TypeVar("Row", bound=Base)
Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
IfMatch = Annotated[str | None, Header(description="The ETag of the version that is to be changed, or *")]


class Page(BaseModel, Generic[Item]):
    """`next` continues the list; null at its end."""

    items: list[Item]
    next: str | None = None


def one_page(
    session: Session,
    query: Select[Any],
    key: Any,
    show: Callable[[Any], Item],
    *,
    limit: int,
    cursor: str | None,
    newest_first: bool = False,
) -> Page[Item]:
    """One page of `query`, ordered by `key`."""
    if cursor is not None:
        last: Any = decode_cursor(cursor)
        if key.type.python_type is int:
            if not last.isdecimal() or len(last) > 18:
                raise ProblemError(422, "the cursor is not one of this list")
            last = int(last)
        query = query.where(key < last if newest_first else key > last)
    rows: Sequence[Any] = session.scalars(query.order_by(key.desc() if newest_first else key).limit(limit + 1)).all()
    following = encode_cursor(str(getattr(rows[limit - 1], key.key))) if len(rows) > limit else None
    return Page(items=[show(row) for row in rows[:limit]], next=following)


def encode_cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    try:
        last = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ProblemError(422, "the cursor is not one: use `next` of the page before") from None
    if not last.isprintable():
        raise ProblemError(422, "the cursor is not one: use `next` of the page before")
    return last


def etag(revision: int | str) -> str:
    return f'"{revision}"'


def tag(response: Response, row: Any) -> None:
    response.headers["ETag"] = etag(row.revision)


def check_match(given: str | None, revision: int | str) -> None:
    """Raises ProblemError 428 without If-Match and 412 when it names another version."""
    if given is None:
        raise ProblemError(428, f"send If-Match with the ETag you have read (it is {etag(revision)} now), or *")
    if given.strip() != "*" and etag(revision) not in [each.strip() for each in given.split(",")]:
        raise ProblemError(412, f"it was changed meanwhile (its ETag is {etag(revision)} now): read it again")


def fetch(session: Session, table: type[Row], id_: str, what: str) -> Row:
    """The row, or ProblemError 404."""
    row = session.get(table, id_) if id_.isprintable() else None
    if row is None:
        raise not_found(what, id_)
    return row


def audit(session: Session, request: Request, caller: Caller, action: str, subject: str, status: int = 200) -> None:
    """Write down who changed what, in the same transaction as the change."""
    trace = getattr(request.state, "trace", "")
    session.add(
        Audit(actor=f"{caller.name} ({caller.token})", action=action, subject=subject, status=status, trace=trace)
    )
    request.state.audited = True
