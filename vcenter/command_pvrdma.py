"""`gpuferry vcenter pvrdma`: hosts made ready for PVRDMA, adapters on virtual machines."""

from __future__ import annotations

from dataclasses import asdict
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
from vcenter.errors import InvalidRequest
from vcenter.pvrdma import apply_adapter, apply_host_pvrdma, host_state, plan_adapter, plan_host_pvrdma
from vcenter.reading import load

app = typer.Typer(help="PVRDMA: RDMA for virtual machines, over a distributed switch.", no_args_is_help=True)


@app.command("status")
def status(vcenter: VcenterName = "", as_json: Json = False) -> None:
    """The hosts with RDMA NICs, and what each lacks for PVRDMA."""
    with session(vcenter) as opened:
        inventory = load(opened)
        hosts = [host for host in inventory.hosts.values() if host.rdma_nics and host.connected]
        states = [
            host_state(opened, host, next((nic.switch for nic in host.rdma_nics if nic.switch), ""))
            for host in sorted(hosts, key=lambda host: host.name)
        ]
    if as_json:
        write_json([{**asdict(state), "ready": state.ready} for state in states])
        return
    rows = [
        [
            state.host_name,
            "ready" if state.ready else "not ready",
            state.vmknic or "none",
            "open" if state.ruleset_open else "closed",
            "; ".join(state.problems),
        ]
        for state in states
    ]
    columns = ["host", "PVRDMA", "VMkernel tag", "firewall", "problems"]
    write_table(f"PVRDMA on the hosts of {inventory.vcenter}", columns, rows, "No connected host has an RDMA NIC.")


@app.command("host")
def host(
    state: Annotated[str, typer.Argument(help="on or off")],
    name: Annotated[str, typer.Argument(metavar="HOST", help="Host name or id.")],
    *,
    vmknic: Annotated[
        str, typer.Option("--vmknic", help="VMkernel adapter (default: the one on the RDMA switch).")
    ] = "",
    network: Annotated[str, typer.Option("--network", help="Portgroup whose switch must have the RDMA uplink.")] = "",
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Tag a VMkernel adapter for PVRDMA and open the firewall rule set, or take both back."""
    if state not in ("on", "off"):
        raise InvalidRequest(f"{state!r} is neither on nor off.")
    with session(vcenter) as opened:
        plan = plan_host_pvrdma(opened, load(opened), name, vmknic=vmknic, enable=state == "on", network=network)
        carry_out(plan, lambda bars: apply_host_pvrdma(opened, plan, bars), dry_run=dry_run, yes=yes, as_json=as_json)


@app.command("adapter")
def adapter(
    action: Annotated[str, typer.Argument(help="add or remove")],
    vm: Annotated[str, typer.Argument(help="Virtual machine, by name or id.")],
    *,
    network: Annotated[str, typer.Option("--network", help="Distributed portgroup (to add).")] = "",
    protocol: Annotated[str, typer.Option("--protocol", help="rocev2 or rocev1.")] = "rocev2",
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give a virtual machine a PVRDMA adapter, or take it away."""
    if action not in ("add", "remove"):
        raise InvalidRequest(f"{action!r} is neither add nor remove.")
    if action == "add" and not network:
        raise InvalidRequest("Name the distributed portgroup with --network.")
    with session(vcenter) as opened:
        plan = plan_adapter(opened, load(opened), vm, network, protocol=protocol, present=action == "add")
        carry_out(plan, lambda bars: apply_adapter(opened, plan, bars), dry_run=dry_run, yes=yes, as_json=as_json)
