"""What people want in vCenter, by its tags, compared with what the runs have made of it: pure decisions.

The tag `gpu-server` on a host wants a GPU server on it, `client` on a VM wants the client agent in it. Taking a tag
off starts the way back. A run that failed is not started again and again: it waits for an operator, or for the tag to
be put on once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.runs.record import MOVING
from appliance.state.models import RunState
from vcenter.inventory import Host, Inventory, Vm
from vcenter.tags import Tag, Tagged

PROVISION, DECOMMISSION, ENABLE, DISABLE = "provision-server", "decommission-server", "enable-client", "disable-client"
STOPPED = (RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True)
class PastRun:
    """What matters of a run here."""

    id: str
    kind: str
    subject: str
    state: RunState
    parameters: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def moving(self) -> bool:
        return self.state in MOVING


@dataclass(frozen=True)
class Action:
    """What is to be done. `verb`: start (a run of `kind` with `parameters`), retry, cancel or roll-back (the run
    `run`).
    """

    verb: str
    why: str
    kind: str = ""
    run: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sight:
    """One vCenter at one moment. `wanted` are the objects that bear a tag of ours; `fresh` those that did not bear it a
    look ago; `missed` those whose tag is off for the second look in a row.
    """

    vcenter: str
    inventory: Inventory
    wanted: frozenset[tuple[str, Tag]]
    fresh: frozenset[tuple[str, Tag]]
    missed: frozenset[tuple[str, Tag]]
    known: frozenset[Tag]


def borne(tags: Iterable[Tagged]) -> frozenset[tuple[str, Tag]]:
    """Wishes only: a GPU server's own tag on its VM shows what is, and wants nothing."""
    kinds = {("HostSystem", Tag.GPU_SERVER), ("VirtualMachine", Tag.CLIENT)}
    return frozenset((each.id, each.tag) for each in tags if (each.kind, each.tag) in kinds)


def latest(runs: Iterable[PastRun], kinds: tuple[str, ...]) -> dict[str, PastRun]:
    """The newest run of each subject among these kinds; `runs` come oldest first."""
    return {run.subject: run for run in runs if run.kind in kinds}


def host_of(run: PastRun, inventory: Inventory) -> str:
    """The id of the host that a server's run is about; "" when it is not known."""
    if run.facts.get("host"):
        return str(run.facts["host"])
    named = run.parameters.get("host", "")
    return next((host.id for host in inventory.hosts.values() if named in (host.name, host.id)), "")


def vm_of(run: PastRun, inventory: Inventory) -> str:
    """The id of the VM that a client's run is about; "" for a machine of no vCenter."""
    if run.facts.get("vm"):
        return str(run.facts["vm"])
    named = run.parameters.get("vm", "")
    return next((vm.id for vm in inventory.vms.values() if named and named in (vm.name, vm.id)), "")


def decide(
    sight: Sight, runs: list[PastRun], server_defaults: Mapping[str, Any], client_defaults: Mapping[str, Any]
) -> list[Action]:
    """What has to be started, retried, cancelled or taken back so that things become as they are wanted."""
    actions: list[Action] = []
    by_host: dict[str, PastRun] = {}
    for run in latest(runs, (PROVISION, DECOMMISSION)).values():
        by_host[host_of(run, sight.inventory)] = run
    for host in sight.inventory.hosts.values():
        actions += _for_host(sight, host, by_host.get(host.id), server_defaults)
    by_vm = {vm_of(run, sight.inventory): run for run in latest(runs, (ENABLE, DISABLE)).values()}
    for vm in sight.inventory.vms.values():
        if not vm.template:
            actions += _for_vm(sight, vm, by_vm.get(vm.id), client_defaults)
    return actions


def server_name(host: Host) -> str:
    return f"gpu-server-{host.name.split('.')[0]}"


def _for_host(sight: Sight, host: Host, run: PastRun | None, defaults: Mapping[str, Any]) -> list[Action]:
    key = (host.id, Tag.GPU_SERVER)
    if key in sight.wanted:
        if run is None or (run.kind == DECOMMISSION and run.state == RunState.SUCCEEDED):
            if not host.connected or not host.gpus:
                return []
            parameters = {
                "gpu_count": len(host.gpus),
                **defaults,
                "vcenter": sight.vcenter,
                "host": host.name,
                "name": server_name(host),
            }
            return [Action("start", f"{host.name} bears the tag gpu-server", PROVISION, parameters=parameters)]
        return _again(run, key in sight.fresh, PROVISION, host.name)
    if key in sight.missed and Tag.GPU_SERVER in sight.known and run is not None and run.kind == PROVISION:
        parameters = {"vcenter": sight.vcenter, "name": run.subject}
        return _way_back(run, DECOMMISSION, parameters, f"the tag gpu-server is off {host.name}")
    return []


def _for_vm(sight: Sight, vm: Vm, run: PastRun | None, defaults: Mapping[str, Any]) -> list[Action]:
    key = (vm.id, Tag.CLIENT)
    if key in sight.wanted:
        if run is None or (run.kind == DISABLE and run.state == RunState.SUCCEEDED):
            if not vm.running:
                return []
            parameters = {**defaults, "vcenter": sight.vcenter, "vm": vm.name}
            return [Action("start", f"{vm.name} bears the tag client", ENABLE, parameters=parameters)]
        return _again(run, key in sight.fresh, ENABLE, vm.name)
    if key in sight.missed and Tag.CLIENT in sight.known and run is not None and run.kind == ENABLE:
        parameters = {"vcenter": sight.vcenter, "vm": vm.name, "client": str(run.facts.get("client", ""))}
        return _way_back(run, DISABLE, parameters, f"the tag client is off {vm.name}")
    return []


def _again(run: PastRun, fresh: bool, kind: str, name: str) -> list[Action]:
    """The tag was put on once more: what stopped is tried again."""
    if fresh and run.kind == kind and run.state in (*STOPPED, RunState.ROLLED_BACK):
        return [Action("retry", f"the tag was put on {name} again", run=run.id)]
    return []


def _way_back(run: PastRun, kind: str, parameters: Mapping[str, Any], why: str) -> list[Action]:
    if run.state == RunState.SUCCEEDED:
        # Only what bore the tag once: the run puts it on itself.
        return [Action("start", why, kind, parameters=parameters)] if run.facts.get("marked") else []
    if run.state in (RunState.QUEUED, RunState.RUNNING):
        # A run that was asked for without a tag gets its tag at its end.
        return [Action("cancel", why, run=run.id)] if run.facts.get("by_tag") else []
    if run.state in STOPPED and run.facts.get("by_tag"):
        return [Action("roll-back", why, run=run.id)]
    return []


@dataclass(frozen=True)
class Drift:
    """Something about a GPU server that is not as its run left it. `check` names it; `repair`: a run can mend it."""

    server: str
    check: str
    wrong: bool
    value: str
    meaning: str
    remedy: str
    repair: bool = False
    run: str = ""


def drifts(sight: Sight, runs: list[PastRun]) -> list[Drift]:
    """How the GPU servers that runs made stand in vCenter now, good and bad."""
    found = []
    for run in latest(runs, (PROVISION, DECOMMISSION)).values():
        if run.kind == PROVISION and run.state == RunState.SUCCEEDED and run.facts.get("marked"):
            found += _of_server(sight, run)
    return found


def _of_server(sight: Sight, run: PastRun) -> list[Drift]:
    inventory, name = sight.inventory, run.subject
    host = inventory.hosts.get(str(run.facts.get("host")))
    vm = inventory.vms.get(str(run.facts.get("vm")))
    wanted = host is not None and (host.id, Tag.GPU_SERVER) in sight.wanted
    usable = wanted and host is not None and host.usable
    off = vm is not None and not vm.running
    held = (
        {gpu.address for gpu in host.gpus if any(user.vm == run.facts.get("vm") for user in gpu.users)}
        if host
        else set()
    )
    lost = sorted(set(run.facts.get("gpus") or []) - held)
    by_tag = "It is put right by itself, for its host bears the tag gpu-server."
    by_hand = "Retry its provision-server run, or decommission it."
    remedy = by_tag if usable else by_hand
    resting = "in maintenance mode" if host is not None and host.in_maintenance else ""
    place = (host.connection if not host.connected else resting or "in service") if host is not None else "gone"

    def one(check: str, wrong: bool, value: str, meaning: str, mend: str = remedy, repair: bool = False) -> Drift:
        return Drift(name, check, wrong, value, meaning, mend if wrong else "", repair and wrong and usable, run.id)

    return [
        one("vcenter.vm", vm is None, "there" if vm else "gone", "The server's virtual machine.", repair=True),
        one("vcenter.power", off, vm.power if vm else "unknown", "Whether the virtual machine runs.", repair=True),
        one(
            "vcenter.gpus",
            vm is not None and bool(lost),
            f"{len(held)} of {len(run.facts.get('gpus') or [])}" + (f", without {', '.join(lost)}" if lost else ""),
            "The GPUs that the virtual machine holds.",
            repair=off,
        ),
        one("vcenter.host", place != "in service", place, "The server's host.", "Take the host back into service."),
    ]
