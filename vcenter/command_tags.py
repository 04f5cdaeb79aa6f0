"""`gpuferry vcenter tags`: who is a GPU server and who is a client, as vCenter's tags say."""

from __future__ import annotations

from typing import Annotated

import typer

from vcenter.command_output import (
    DryRun,
    Json,
    VcenterName,
    Yes,
    carry_out,
    session,
    write_json,
    write_table,
)
from vcenter.errors import InvalidRequest, NotFound
from vcenter.inventory import Inventory
from vcenter.plan import Change
from vcenter.reading import load
from vcenter.tags import (
    CATEGORY,
    Tag,
    Tagged,
    TagPlan,
    apply_definitions,
    apply_tags,
    plan_definitions,
    plan_tags,
    tagged,
)

app = typer.Typer(help="The tags gpu-server and client of the category gpuferry.", no_args_is_help=True)


def _name(inventory: Inventory, one: Tagged) -> str:
    thing = inventory.hosts.get(one.id) or inventory.vms.get(one.id)
    return thing.name if thing else one.id


def _target(inventory: Inventory, name: str) -> tuple[str, str]:
    """(kind, id) of a host or VM by name or id."""
    try:
        return "HostSystem", inventory.host(name).id
    except NotFound:
        return "VirtualMachine", inventory.vm(name).id


@app.command("list")
def list_tags(vcenter: VcenterName = "", as_json: Json = False) -> None:
    """The hosts and virtual machines that bear one of our tags."""
    with session(vcenter) as opened:
        inventory = load(opened)
        found = tagged(opened)
    rows = [[one.tag.value, one.kind, _name(inventory, one), one.id] for one in found]
    if as_json:
        write_json([dict(zip(("tag", "kind", "name", "id"), row, strict=True)) for row in rows])
        return
    write_table(f"Tags of {inventory.vcenter}", ["tag", "kind", "name", "id"], rows, "Nothing is tagged yet.")


@app.command("define")
def define(vcenter: VcenterName = "", dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Create the category and its tags where they are missing."""
    with session(vcenter) as opened:
        plan = plan_definitions(opened)
        carry_out(plan, lambda _: apply_definitions(opened, plan), dry_run=dry_run, yes=yes, as_json=as_json)


@app.command("set")
def set_tag(
    tag: Annotated[str, typer.Argument(help="gpu-server or client")],
    names: Annotated[list[str], typer.Argument(metavar="OBJECT...", help="Hosts or virtual machines, by name or id.")],
    *,
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put a tag on hosts or virtual machines."""
    try:
        wanted = Tag(tag)
    except ValueError:
        raise InvalidRequest(f"{tag!r} is neither gpu-server nor client.") from None
    with session(vcenter) as opened:
        inventory = load(opened)
        targets = [Tagged(*_target(inventory, name), wanted) for name in names]
        if wanted is Tag.CLIENT and any(one.kind == "HostSystem" for one in targets):
            raise InvalidRequest("A client is a virtual machine, not a host.")
        plan = plan_tags(opened, targets)
        carry_out(plan, lambda _: apply_tags(opened, plan), dry_run=dry_run, yes=yes, as_json=as_json)


@app.command("clear")
def clear(
    names: Annotated[list[str], typer.Argument(metavar="OBJECT...", help="Hosts or virtual machines, by name or id.")],
    *,
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take our tags off hosts or virtual machines."""
    with session(vcenter) as opened:
        inventory = load(opened)
        targets = {_target(inventory, name) for name in names}
        bearing = tuple(one for one in tagged(opened) if (one.kind, one.id) in targets)
        changes = tuple(Change(_name(inventory, one), f"tag {CATEGORY}", one.tag.value, "") for one in bearing)
        plan = TagPlan(CATEGORY, changes, detach=bearing)
        carry_out(plan, lambda _: apply_tags(opened, plan), dry_run=dry_run, yes=yes, as_json=as_json)
