"""Errors as `application/problem+json` (RFC 9457): every answer of 400 and above is one."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from appliance.state.database import DatabaseGoneError

log = structlog.get_logger(__name__)
TITLES = {
    400: "Malformed request",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Changed meanwhile",
    415: "Unsupported content",
    422: "Invalid request",
    428: "If-Match is required",
    500: "Internal error",
    503: "Not available",
}


class Problem(BaseModel):
    """`detail` says what failed, on what, why, and what to do; `trace` finds it in the logs."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    trace: str = ""
    errors: list[dict[str, Any]] | None = None


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def not_found(what: str, id_: str) -> ProblemError:
    return ProblemError(404, f"there is no {what} {id_}")


def respond(request: Request, status: int, detail: str, **more: Any) -> JSONResponse:
    headers = more.pop("headers", None)
    problem = Problem(
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        trace=getattr(request.state, "trace", ""),
        **more,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status, media_type="application/problem+json", headers=headers
    )


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    @app.exception_handler(ProblemError)
    def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return respond(request, error.status, error.detail, headers=error.headers)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        return respond(request, error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"where": list(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{'.'.join(each['where'])}: {each['what']}" for each in errors[:5])
        return respond(request, 422, detail, errors=errors)

    @app.exception_handler(DatabaseGoneError)
    def _gone(request: Request, error: DatabaseGoneError) -> JSONResponse:
        return respond(request, 503, str(error), headers={"Retry-After": "2"})

    @app.exception_handler(StaleDataError)
    def _stale(request: Request, error: StaleDataError) -> JSONResponse:
        return respond(request, 412, "it was changed by somebody else at the same moment: read it again")

    @app.exception_handler(IntegrityError)
    def _broken_rule(request: Request, error: IntegrityError) -> JSONResponse:
        log.info("rule-refused", error=str(error.orig))
        return respond(
            request, 409, "it contradicts what is there already: a name is taken, or it is still referred to"
        )

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("request-failed", exc_info=error)
        return respond(request, 500, "the appliance failed; its log has the details under this trace")


DOCUMENT = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: its own errors and those every operation may give."""
    every = sorted({400, 401, 403, 422, 503, *statuses})
    return {status: {"description": TITLES[status], **DOCUMENT} for status in every}
