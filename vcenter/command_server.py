"""`gpuferry vcenter server`: GPU servers created, listed and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vcenter.cloud_init import CloudInit
from vcenter.command_output import (
    DryRun,
    Json,
    VcenterName,
    Yes,
    carry_out,
    confirmed,
    progress_bars,
    session,
    show_plan,
    write_json,
    write_table,
)
from vcenter.errors import InvalidRequest
from vcenter.marking import mark_server
from vcenter.reading import load
from vcenter.server_plan import LibraryItem, OvaFile, ServerRequest, Source, Template, plan_server, servers
from vcenter.server_vm import apply_removal, apply_server, plan_removal

app = typer.Typer(help="GPU servers: virtual machines with GPUs passed through.", no_args_is_help=True)


def _source(template: str, library_item: str, ova: Path | None) -> Source:
    given = [bool(template), bool(library_item), ova is not None]
    if sum(given) != 1:
        raise InvalidRequest("Name one source: --template, --library-item LIBRARY/ITEM, or --ova FILE.")
    if template:
        return Template(template)
    if ova is not None:
        return OvaFile(ova)
    library, _, item = library_item.partition("/")
    if not library or not item:
        raise InvalidRequest(f"{library_item!r} is not LIBRARY/ITEM.")
    return LibraryItem(library, item)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name of the virtual machine.")],
    *,
    network: Annotated[str, typer.Option("--network", help="Portgroup or network of the first adapter.")],
    template: Annotated[str, typer.Option("--template", help="Template to clone.")] = "",
    library_item: Annotated[str, typer.Option("--library-item", help="LIBRARY/ITEM of a content library.")] = "",
    ova: Annotated[Path | None, typer.Option("--ova", help="OVA file on this machine.")] = None,
    host: Annotated[str, typer.Option("--host", help="Host (default: the best one).")] = "",
    gpu: Annotated[list[str] | None, typer.Option("--gpu", help="PCI address of a GPU; may be repeated.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many GPUs, when none is named.")] = 1,
    model: Annotated[str, typer.Option("--model", help="Only GPUs whose name contains this.")] = "",
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Dynamic DirectPath I/O: DRS picks the device.")] = False,
    label: Annotated[str, typer.Option("--label", help="Hardware label that dynamic devices must have.")] = "",
    cpus: Annotated[int, typer.Option("--cpus", help="Virtual CPUs.")] = 8,
    memory: Annotated[int, typer.Option("--memory", help="MiB; 0: 1.5 times the GPUs' memory.")] = 0,
    rdma_network: Annotated[str, typer.Option("--rdma-network", help="Distributed portgroup for PVRDMA.")] = "",
    rdma_protocol: Annotated[str, typer.Option("--rdma-protocol", help="rocev2 or rocev1.")] = "rocev2",
    datastore: Annotated[str, typer.Option("--datastore", help="Datastore (default: the one with most room).")] = "",
    folder: Annotated[str, typer.Option("--folder", help="VM folder.")] = "",
    hardware_version: Annotated[int, typer.Option("--hardware-version", help="At least vmx-N.")] = 0,
    mmio_gb: Annotated[int | None, typer.Option("--mmio-gb", help="MMIO window, overriding the rule.")] = None,
    gpu_memory: Annotated[int, typer.Option("--gpu-memory", help="MiB of each GPU, overriding the catalogue.")] = 0,
    ssh_key: Annotated[Path | None, typer.Option("--ssh-key", help="Public key for the guest's account.")] = None,
    user_data: Annotated[Path | None, typer.Option("--user-data", help="cloud-init user data (a file).")] = None,
    no_power_on: Annotated[bool, typer.Option("--no-power-on", help="Leave it powered off.")] = False,
    may_power_off: Annotated[
        bool, typer.Option("--may-power-off", help="A running server may be powered off to change its hardware.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the guest's address.")] = 900.0,
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create a GPU server, or bring an existing one to what is asked for. Safe to repeat."""
    request = ServerRequest(
        name=name,
        source=_source(template, library_item, ova),
        network=network,
        host=host,
        gpus=tuple(gpu or ()),
        count=count,
        model=model,
        dynamic=dynamic,
        label=label,
        cpus=cpus,
        memory_mib=memory,
        rdma_network=rdma_network,
        rdma_protocol=rdma_protocol,
        datastore=datastore,
        folder=folder,
        hardware_version=hardware_version,
        mmio_gb=mmio_gb,
        gpu_memory_mib=gpu_memory,
        cloud_init=_cloud_init(name, ssh_key, user_data),
        power_on=not no_power_on,
        may_power_off=may_power_off,
    )
    with session(vcenter) as opened:
        plan = plan_server(opened, load(opened), request)
        show_plan(plan, as_json, dry_run=dry_run)
        if dry_run or not confirmed(plan, "Go on?", yes):
            if as_json and not dry_run:
                write_json({**plan.as_dict(), "applied": False})
            return
        with progress_bars() as bars:
            server = apply_server(opened, plan, bars, address_timeout=timeout)
        mark_server(opened, server.id, server.name)
    if as_json:
        write_json({**plan.as_dict(), "applied": True, "id": server.id, "address": server.address})
    else:
        write_table("", ["server", "id", "address"], [[server.name, server.id, server.address or "(off)"]], "")


def _cloud_init(name: str, ssh_key: Path | None, user_data: Path | None) -> CloudInit | None:
    if ssh_key is None and user_data is None:
        return None
    try:
        keys = tuple(ssh_key.read_text(encoding="utf-8").split("\n")) if ssh_key else ()
        text = user_data.read_text(encoding="utf-8") if user_data else ""
    except (OSError, UnicodeDecodeError) as bad:
        raise InvalidRequest(f"The file cannot be read: {bad}.") from None
    if any("PRIVATE KEY" in key for key in keys):
        raise InvalidRequest("That is a private key; the guest gets the public one (*.pub).", object_name=str(ssh_key))
    ssh_keys = tuple(key.strip() for key in keys if key.strip() and not key.startswith("#"))
    return CloudInit(host_name=name, instance_id=name, user_data=text, ssh_keys=ssh_keys)


@app.command("list")
def list_servers(vcenter: VcenterName = "", as_json: Json = False) -> None:
    """The GPU servers, with their GPUs and addresses."""
    with session(vcenter) as opened:
        inventory = load(opened)
    found: list[dict[str, Any]] = []
    for vm in servers(inventory):
        host = inventory.hosts.get(vm.host)
        cards = [gpu for gpu in (host.gpus if host else ()) if any(user.vm == vm.id for user in gpu.users)]
        found.append(
            {
                "name": vm.name,
                "id": vm.id,
                "host": host.name if host else "",
                "power": vm.power,
                "address": vm.address,
                "memory_mib": vm.memory_mib,
                "gpus": [{"address": gpu.address, "name": gpu.name, "memory_mib": gpu.memory_mib} for gpu in cards],
                "notes": vm.annotation,
            }
        )
    if as_json:
        write_json(found)
        return
    rows = [
        [s["name"], s["host"], s["power"], s["address"], s["notes"].rpartition(": ")[2], s["memory_mib"]] for s in found
    ]
    columns = ["server", "host", "power", "address", "GPUs", "MiB"]
    write_table(f"GPU servers of {inventory.vcenter}", columns, rows, "There is no GPU server yet.")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name or id of the server.")],
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the machine; only give its GPUs back.")] = False,
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Power a GPU server off, give its GPUs back, and delete it. Safe to repeat."""
    with session(vcenter) as opened:
        plan = plan_removal(opened, load(opened), name, delete=not keep)
        carry_out(
            plan,
            lambda bars: apply_removal(opened, plan, bars),
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
            question=f"Remove {name}?",
        )
