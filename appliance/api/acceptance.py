"""Acceptance tests of GPU servers: their results, newest first, and those that others than the appliance ran."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field
from sqlalchemy import func, select

from appliance import acceptances
from appliance.api.paging import Cursor, Limit, Page, audit, fetch, one_page
from appliance.api.problems import answers
from appliance.api.schemas import Shown, Wanted, printable
from appliance.api.security import Operator, Reader
from appliance.state.database import reading, writing
from appliance.state.models import Acceptance, Gpu, GpuState, Server

router = APIRouter(tags=["servers"])
Told = Annotated[str, Field(max_length=2000), AfterValidator(printable)]
Gigabytes = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class GpuTested(Wanted):
    """One GPU's part of a test. Rates are GB/s; `ecc_…`: uncorrected errors, or why they are not counted."""

    ordinal: Annotated[int, Field(ge=0, le=1023)]
    name: Told = ""
    uuid: Told = ""
    memory_mib: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    allocated_mib: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    copy_in_gb_s: Gigabytes = 0.0
    copy_out_gb_s: Gigabytes = 0.0
    on_device_gb_s: Gigabytes = 0.0
    ecc_before: Told = ""
    ecc_after: Told = ""
    passed: bool
    error: Told = ""


class AcceptanceWanted(Wanted):
    """What `python -m gpuserver.acceptance` printed on the server."""

    passed: bool
    gpus: Annotated[list[GpuTested], Field(max_length=64)]
    error: Told = ""
    cupy: Told = ""
    driver: Annotated[int, Field(ge=0, le=1 << 40)] = 0


class AcceptanceShown(Shown):
    """`result`: for each GPU what was allocated, copied, computed and measured, and its ECC errors before and after."""

    id: str
    server_id: str
    run_id: str
    at: datetime
    passed: bool
    result: dict[str, Any]


@router.get("/servers/{id}/acceptance", responses=answers(404))
def list_acceptance(
    request: Request, caller: Reader, id: str, limit: Limit = 100, cursor: Cursor = None
) -> Page[AcceptanceShown]:
    """The results of a server's acceptance tests, newest first."""
    with reading(request.app.state.engine) as session:
        fetch(session, Server, id, "server")
        query, show = select(Acceptance).where(Acceptance.server_id == id), AcceptanceShown.model_validate
        return one_page(session, query, Acceptance.id, show, limit=limit, cursor=cursor, newest_first=True)


@router.post("/servers/{id}/acceptance", status_code=201, responses=answers(404))
def keep_acceptance(request: Request, caller: Operator, id: str, wanted: AcceptanceWanted) -> AcceptanceShown:
    """Keep the result of a test that was run on the server by other hands than the appliance's.

    It passed if every GPU did, and if each GPU that the server shows to the pool was tested. The server's state stays.
    """
    with writing(request.app.state.engine) as session:
        fetch(session, Server, id, "server")
        count = select(func.count()).where(Gpu.server_id == id, Gpu.state != GpuState.MISSING)
        row = acceptances.keep(session, id, wanted.model_dump(), gpus=session.scalars(count).one())
        audit(session, request, caller, "acceptance test kept", id, 201)
        session.flush()
        return AcceptanceShown.model_validate(row)
