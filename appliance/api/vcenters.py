"""The vCenters a site uses. Passwords go in and never come out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from appliance.api.paging import Cursor, IfMatch, Limit, Page, audit, check_match, fetch, one_page, tag
from appliance.api.problems import answers
from appliance.api.schemas import VCenterChange, VCenterShown, VCenterWanted
from appliance.api.security import Admin, Reader
from appliance.ids import new_id
from appliance.state.database import reading, writing
from appliance.state.models import VCenter

router = APIRouter(tags=["vcenters"])


@router.get("/vcenters", responses=answers())
def list_vcenters(request: Request, caller: Reader, limit: Limit = 100, cursor: Cursor = None) -> Page[VCenterShown]:
    with reading(request.app.state.engine) as session:
        show = VCenterShown.model_validate
        return one_page(session, select(VCenter), VCenter.id, show, limit=limit, cursor=cursor)


@router.post("/vcenters", status_code=201, responses=answers(409))
def add_vcenter(request: Request, response: Response, caller: Admin, wanted: VCenterWanted) -> VCenterShown:
    with writing(request.app.state.engine) as session:
        row = VCenter(
            id=new_id("vcenter"),
            sealed_password=request.app.state.site.seal(wanted.password),
            **wanted.model_dump(exclude={"password"}),
        )
        session.add(row)
        audit(session, request, caller, "vcenter added", row.id, 201)
        session.flush()
        tag(response, row)
        response.headers["Location"] = f"/v1/vcenters/{row.id}"
        return VCenterShown.model_validate(row)


@router.get("/vcenters/{id}", responses=answers(404))
def get_vcenter(request: Request, response: Response, caller: Reader, id: str) -> VCenterShown:
    with reading(request.app.state.engine) as session:
        row = fetch(session, VCenter, id, "vCenter")
        tag(response, row)
        return VCenterShown.model_validate(row)


@router.patch("/vcenters/{id}", responses=answers(404, 409, 412, 428))
def change_vcenter(
    request: Request, response: Response, caller: Admin, id: str, change: VCenterChange, if_match: IfMatch = None
) -> VCenterShown:
    with writing(request.app.state.engine) as session:
        row = fetch(session, VCenter, id, "vCenter")
        check_match(if_match, row.revision)
        for name, value in change.model_dump(exclude_none=True).items():
            if name == "password":
                row.sealed_password = request.app.state.site.seal(value)
            else:
                setattr(row, name, value)
        audit(session, request, caller, "vcenter changed", id)
        session.flush()
        tag(response, row)
        return VCenterShown.model_validate(row)


@router.delete("/vcenters/{id}", status_code=204, responses=answers(404, 412, 428))
def remove_vcenter(request: Request, caller: Admin, id: str, if_match: IfMatch = None) -> None:
    with writing(request.app.state.engine) as session:
        row = fetch(session, VCenter, id, "vCenter")
        check_match(if_match, row.revision)
        session.delete(row)
        audit(session, request, caller, "vcenter removed", id, 204)
