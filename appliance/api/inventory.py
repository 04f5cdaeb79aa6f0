"""What a vCenter holds, from memory, and the tags by which it drives runs."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from appliance.api.paging import audit, etag, fetch
from appliance.api.problems import ProblemError, answers
from appliance.api.schemas import (
    InventoryDatastore,
    InventoryGpu,
    InventoryHost,
    InventoryNetwork,
    InventoryShown,
    InventoryVm,
    TagShown,
    TagWanted,
)
from appliance.api.security import Operator, Reader
from appliance.state.database import reading, writing
from appliance.state.models import VCenter
from appliance.vcenters import Followed, NoSuchVcenterError
from vcenter.errors import Ambiguous, NotFound, VcenterError
from vcenter.inventory import Gpu, Host, Inventory, Vm
from vcenter.server_plan import servers
from vcenter.tags import Tag, Tagged, apply_tags, plan_tags

router = APIRouter(tags=["vcenters"])


def _followed(request: Request, id: str) -> Followed:
    with reading(request.app.state.engine) as session:
        fetch(session, VCenter, id, "vCenter")
    try:
        found: Followed = request.app.state.vcenters.find(id)
    except NoSuchVcenterError as missing:
        raise ProblemError(404, str(missing)) from None
    return found


@router.get(
    "/vcenters/{id}/inventory",
    response_model=InventoryShown,
    responses={**answers(404), 304: {"description": "It is the one that If-None-Match names"}},
)
def get_inventory(
    request: Request,
    response: Response,
    caller: Reader,
    id: str,
    if_none_match: Annotated[str | None, Header(description="The ETag of the inventory that you have")] = None,
) -> InventoryShown | Response:
    """Hosts with their GPUs, VMs, networks: kept up by vCenter itself, so asking costs vCenter nothing."""
    followed = _followed(request, id)
    seen = followed.seen()
    if seen is None:
        why = str(followed.error) if followed.error else "it was added just now: ask again in a moment"
        raise ProblemError(503, f"there is no inventory of {followed.name} yet: {why}", {"Retry-After": "2"})
    inventory = seen.inventory
    version = f"{seen.at.isoformat()} {seen.stale} {sorted((each.id, each.tag.value) for each in followed.tags())}"
    response.headers["ETag"] = etag(hashlib.sha256(version.encode()).hexdigest()[:32])
    if if_none_match is not None and response.headers["ETag"] in [each.strip() for each in if_none_match.split(",")]:
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    tags = {each.id: each.tag.value for each in followed.tags()}
    ours = {vm.id for vm in servers(inventory)}
    rdma = {nic.switch for host in inventory.hosts.values() for nic in host.rdma_nics if nic.switch}
    switches = {switch.id: switch.uuid for switch in inventory.switches.values()}
    networks = [InventoryNetwork(name=each.name, rdma=False) for each in inventory.networks.values()]
    networks += [
        InventoryNetwork(name=each.name, rdma=switches.get(each.switch) in rdma)
        for each in inventory.portgroups.values()
        if not each.uplink
    ]
    return InventoryShown(
        at=seen.at,
        stale=seen.stale,
        datacenters=sorted(each.name for each in inventory.datacenters.values()),
        clusters=sorted(each.name for each in inventory.clusters.values() if not each.standalone),
        hosts=sorted(
            (_host(inventory, each, tags.get(each.id, "")) for each in inventory.hosts.values()), key=lambda h: h.name
        ),
        vms=sorted(
            (_vm(inventory, each, tags.get(each.id, ""), each.id in ours) for each in inventory.vms.values()),
            key=lambda vm: vm.name,
        ),
        networks=sorted(networks, key=lambda network: network.name),
        datastores=[
            InventoryDatastore(name=each.name, free_mib=each.free_mib, capacity_mib=each.capacity_mib)
            for each in sorted(inventory.datastores.values(), key=lambda store: store.name)
        ],
        templates=sorted(each.name for each in inventory.vms.values() if each.template),
    )


def _host(inventory: Inventory, host: Host, tag: str) -> InventoryHost:
    cluster = inventory.clusters.get(host.cluster)
    datacenter = inventory.datacenters.get(cluster.datacenter) if cluster else None
    return InventoryHost(
        id=host.id,
        name=host.name,
        datacenter=datacenter.name if datacenter else "",
        cluster=cluster.name if cluster and not cluster.standalone else "",
        connection=host.connection,
        maintenance=host.in_maintenance,
        power=host.power,
        tag=tag,
        gpus=[_gpu(gpu) for gpu in host.gpus],
        rdma_nics=[nic.name for nic in host.rdma_nics],
    )


def _gpu(gpu: Gpu) -> InventoryGpu:
    return InventoryGpu(
        address=gpu.address,
        name=gpu.name,
        memory_mib=gpu.memory_mib,
        state=gpu.state.value,
        next_step=gpu.next_step,
        holder=", ".join(user.name for user in gpu.users),
    )


def _vm(inventory: Inventory, vm: Vm, tag: str, is_server: bool) -> InventoryVm:
    host = inventory.hosts.get(vm.host)
    return InventoryVm(
        id=vm.id,
        name=vm.name,
        host=host.name if host else "",
        power=vm.power,
        address=vm.address,
        role=Tag.GPU_SERVER.value if is_server else tag,
        tag=tag,
        template=vm.template,
        cpus=vm.cpus,
        memory_mib=vm.memory_mib,
    )


@router.put("/vcenters/{id}/tags", responses=answers(404, 409))
def set_tag(request: Request, caller: Operator, id: str, wanted: TagWanted) -> TagShown:
    """Put gpuferry's tag on a host or VM, or take it off: a wish that vCenter shows and the appliance fulfils."""
    followed = _followed(request, id)
    seen = followed.seen()
    if seen is None:
        raise ProblemError(503, f"there is no inventory of {followed.name} yet", {"Retry-After": "2"})
    one = _tagged(seen.inventory, wanted)
    try:
        session = followed.session()
        plan = plan_tags(session, [one] if wanted.present else [], unwanted=[] if wanted.present else [one])
        apply_tags(session, plan)
        followed.read_tags()
    except VcenterError as failure:
        raise ProblemError(409, str(failure)) from None
    changed = bool(plan.attach or plan.detach)
    with writing(request.app.state.engine) as session_:
        verb = "put on" if wanted.present else "taken off"
        audit(session_, request, caller, f"tag {wanted.tag} {verb} {wanted.object}"[:200], id)
    request.app.state.runs.wake()
    return TagShown(object=wanted.object, tag=wanted.tag, present=wanted.present, changed=changed)


def _tagged(inventory: Inventory, wanted: TagWanted) -> Tagged:
    tag = Tag(wanted.tag)
    try:
        if tag is Tag.GPU_SERVER:
            try:
                return Tagged("HostSystem", inventory.host(wanted.object).id, tag)
            except NotFound:
                pass
        return Tagged("VirtualMachine", inventory.vm(wanted.object).id, tag)
    except NotFound:
        raise ProblemError(404, f"there is no host or virtual machine {wanted.object!r}") from None
    except Ambiguous as many:
        raise ProblemError(409, str(many)) from None
