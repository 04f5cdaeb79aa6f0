"""The kinds of runs: what each is asked with, what it is about, and its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from appliance.runs import client, decommission, orders, pvrdma, server, upgrade
from appliance.runs import parameters as asked
from appliance.runs.acceptance import Accept, FindEnrolled
from appliance.runs.deploying import AwaitAddress
from appliance.runs.parameters import Parameters, split_secrets
from appliance.runs.passthrough import FindHost, SetPassthrough
from appliance.runs.record import NewRun
from appliance.runs.step import Step
from appliance.runs.work import Ground
from appliance.state.models import RunStep
from appliance.vcenters import NoSuchVcenterError


@dataclass(frozen=True)
class Kind:
    """`subject` says to people what a run is about; `key` names what it changes: runs of one key wait for each other.

    `lane` is the queue whose limit it counts against: vcenter (so many of one vCenter at a time) or guests (so many in
    all).
    """

    name: str
    parameters: type[Parameters]
    subject: Callable[[Any], str]
    key: Callable[[Any, Ground], str]
    steps: Callable[[Any, Ground], Iterable[Step]]
    lane: str = "vcenter"


def _host_key(wanted: Any) -> str:
    return f"{wanted.vcenter}/{wanted.host}"


def _server_key(wanted: Any, ground: Ground) -> str:
    """The host that the server's VM is on, as far as it is known: one run changes a host at a time."""
    try:
        seen = ground.vcenters.find(wanted.vcenter).seen()
    except NoSuchVcenterError:
        seen = None
    if seen is not None:
        for vm in seen.inventory.vms.values():
            if vm.name == wanted.name and vm.host in seen.inventory.hosts:
                return f"{wanted.vcenter}/{seen.inventory.hosts[vm.host].name}"
    return f"{wanted.vcenter}/{wanted.name}"


def _machine_key(wanted: Any, ground: Ground) -> str:
    return f"{wanted.vcenter}/{wanted.vm}" if wanted.vm else f"machine {wanted.address}"


ALL: tuple[Kind, ...] = (
    Kind(
        "passthrough",
        asked.Passthrough,
        lambda wanted: wanted.host,
        lambda wanted, ground: _host_key(wanted),
        lambda wanted, ground: [FindHost(), SetPassthrough(("on",) if wanted.on else ("off",))],
    ),
    Kind(
        "provision-server",
        asked.ProvisionServer,
        lambda wanted: wanted.name,
        lambda wanted, ground: _host_key(wanted),
        lambda wanted, ground: [
            server.ChooseGpus(),
            SetPassthrough(("on",)),
            server.CreateVm(),
            server.PowerOn(),
            AwaitAddress(),
            server.DeployServer(),
            server.AwaitServer(),
            Accept(),
            server.JoinPool(),
        ],
    ),
    Kind(
        "decommission-server",
        asked.DecommissionServer,
        lambda wanted: wanted.name,
        _server_key,
        lambda wanted, ground: [
            decommission.FindServer(),
            decommission.DrainServer(),
            decommission.UninstallServer(),
            decommission.Revoke(),
            decommission.RemoveVm(),
            decommission.Unmark(),
            *([decommission.PassthroughOff()] if wanted.passthrough_off else []),
        ],
    ),
    Kind(
        "attach-pvrdma",
        asked.AttachPvrdma,
        lambda wanted: wanted.name,
        _server_key,
        lambda wanted, ground: [
            decommission.FindServer(),
            pvrdma.DrainForPvrdma(),
            pvrdma.PowerOff(),
            pvrdma.AttachPvrdma(),
            server.PowerOn(),
            AwaitAddress(),
            server.AwaitServer(),
            pvrdma.Reopen(),
        ],
    ),
    Kind(
        "enable-client",
        asked.EnableClient,
        client.client_name,
        _machine_key,
        lambda wanted, ground: [
            client.FindMachine(),
            client.AwaitMachine(),
            client.DeployClient(),
            client.AwaitClient(),
            client.MarkClient(),
        ],
        lane="guests",
    ),
    Kind(
        "disable-client",
        asked.DisableClient,
        client.client_name,
        _machine_key,
        lambda wanted, ground: [
            client.FindClient(),
            client.EndLeases(),
            client.UninstallClient(),
            client.RevokeClient(),
            client.UnmarkClient(),
        ],
        lane="guests",
    ),
    Kind(
        "accept-server",
        asked.AcceptServer,
        lambda wanted: wanted.server,
        lambda wanted, ground: f"server {wanted.server}",
        lambda wanted, ground: [FindEnrolled(), Accept()],
        lane="guests",
    ),
    Kind(
        "upgrade-servers",
        asked.UpgradeServers,
        upgrade.subject_of_servers,
        lambda wanted, ground: "upgrade of servers",
        upgrade.server_steps,
        lane="guests",
    ),
    Kind(
        "upgrade-clients",
        asked.UpgradeClients,
        upgrade.subject_of_clients,
        lambda wanted, ground: "upgrade of clients",
        upgrade.client_steps,
        lane="guests",
    ),
)
KINDS = {kind.name: kind for kind in ALL}
STEPS: dict[str, type[Step]] = {
    each.name: each
    for each in (
        *(FindHost, SetPassthrough, AwaitAddress, Accept, FindEnrolled),
        *(server.ChooseGpus, server.CreateVm, server.PowerOn, server.DeployServer, server.AwaitServer, server.JoinPool),
        *(decommission.FindServer, decommission.DrainServer, decommission.UninstallServer, decommission.Revoke),
        *(pvrdma.DrainForPvrdma, pvrdma.PowerOff, pvrdma.AttachPvrdma, pvrdma.Reopen),
        *(decommission.RemoveVm, decommission.Unmark, decommission.PassthroughOff),
        *(client.FindMachine, client.AwaitMachine, client.DeployClient, client.AwaitClient, client.MarkClient),
        *(client.FindClient, client.EndLeases, client.UninstallClient, client.RevokeClient, client.UnmarkClient),
        *(upgrade.DrainBatch, upgrade.UpgradeServers, upgrade.ResumeBatch, upgrade.UpgradeClients),
        *(orders.AwaitIdleClients, orders.OrderServers, orders.OrderClients),
    )
}
FINAL = frozenset(name for name, step in STEPS.items() if step.final)
"""Steps that cannot be taken back."""


def new_run(kind: Kind, wanted: Any, ground: Ground) -> NewRun:
    """What is to be written down for a run of these parameters."""
    shown, secrets = split_secrets(wanted)
    return NewRun(
        kind=kind.name,
        subject=kind.subject(wanted),
        vcenter=getattr(wanted, "vcenter", ""),
        key=kind.key(wanted, ground),
        parameters=shown,
        sealed=ground.site.seal(json.dumps(secrets)) if secrets else "",
        steps=[(step.name, step.title, step.targets) for step in kind.steps(wanted, ground)],
    )


def parameters_of(kind: str, shown: dict[str, Any]) -> Parameters:
    """The parameters of a run that is written down, its secrets left out."""
    return KINDS[kind].parameters.model_validate(shown)


def step_of(row: RunStep) -> Step:
    """The step that a row means."""
    return STEPS[row.name](tuple(row.targets))
