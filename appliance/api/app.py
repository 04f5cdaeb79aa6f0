"""The application: every router, request ids, refused writes in the audit log, one error document."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, Request, Response
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from appliance import metrics
from appliance.api import (
    acceptance,
    bundles,
    inventory,
    leases,
    live,
    people,
    problems,
    runs,
    servers,
    tokens,
    vcenters,
    watching,
)
from appliance.control import ControlLoop
from appliance.ids import new_id
from appliance.runs.engine import RunEngine
from appliance.site import Site
from appliance.state.database import DatabaseGoneError, writing
from appliance.state.models import Audit
from gpuserver.protocol.version import own_version

log = structlog.get_logger(__name__)


def make_app(site: Site, engine: Engine, loop: ControlLoop, run_engine: RunEngine) -> FastAPI:
    """The API over a running control loop and a running engine of runs."""
    app = FastAPI(
        title="gpuferry appliance",
        version=own_version(),
        summary="One pool of GPUs: servers, leases, clients, runs, vCenters, tokens, events, health",
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.site, app.state.engine, app.state.loop = site, engine, loop
    app.state.runs, app.state.vcenters = run_engine, run_engine.ground.vcenters
    problems.install(app)
    app.middleware("http")(_accompany)
    for module in (servers, acceptance, leases, live, people, tokens, vcenters, inventory, runs, watching, bundles):
        app.include_router(module.router, prefix="/v1")
    app.include_router(watching.open_router)
    app.include_router(bundles.open_router)
    _describe_problem(app)
    return app


def _describe_problem(app: FastAPI) -> None:
    """Put the problem document into the OpenAPI description, which refers to it."""
    make = app.openapi

    def openapi() -> dict[str, object]:
        document = make()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("Problem", problems.Problem.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _accompany(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give the request an id that its lease, its daemon and its worker will log too; note refused writes."""
    given = request.headers.get("x-request-id", "")
    trace = given if 0 < len(given) <= 64 and given.isascii() and given.isprintable() else new_id("trace")
    request.state.trace = trace
    structlog.contextvars.bind_contextvars(trace=trace)
    started = time.monotonic()
    try:
        response = await call_next(request)
    finally:
        structlog.contextvars.unbind_contextvars("trace")
    response.headers["X-Request-Id"] = trace
    metrics.HTTP.labels(request.method, str(response.status_code)).inc()
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        log.info(
            "write",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            ms=milliseconds,
            trace=trace,
        )
        if response.status_code >= 400 and not getattr(request.state, "audited", False):
            await run_in_threadpool(_note_refusal, request, response.status_code, trace)
    return response


def _note_refusal(request: Request, status: int, trace: str) -> None:
    caller = getattr(request.state, "caller", None)
    actor = f"{caller.name} ({caller.token})" if caller else "nobody"
    path = "".join(each if each.isprintable() else "?" for each in request.url.path)[:500]
    try:
        with writing(request.app.state.engine) as session:
            session.add(
                Audit(actor=actor, action=f"{request.method} refused", subject=path, status=status, trace=trace)
            )
    except DatabaseGoneError as gone:
        log.warning("not-audited", path=path, status=status, why=str(gone))
