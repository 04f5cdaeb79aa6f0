"""Steps on a host: is it there, and passthrough of its GPUs on or off."""

from __future__ import annotations

from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from vcenter.errors import HostDisconnected
from vcenter.inventory import Gpu, Host, Inventory
from vcenter.passthrough import apply_passthrough, plan_passthrough


def addresses(work: Work, inventory: Inventory) -> list[str]:
    """The PCI addresses a run is about: those it was asked with, those it chose before, else all of the host."""
    asked = list(work.facts.get("gpus") or work.parameters.gpus)
    return asked or [gpu.address for gpu in inventory.host(work.parameters.host).gpus]


def described(host: Host, gpus: list[Gpu]) -> str:
    counted: dict[str, int] = {}
    for gpu in gpus:
        counted[f"{gpu.name} {gpu.state.value}"] = counted.get(f"{gpu.name} {gpu.state.value}", 0) + 1
    cards = ", ".join(f"{count} x {what}" for what, count in counted.items()) or "no GPU"
    return f"{host.name} is {host.connection}: {cards}"


def connected_host(inventory: Inventory, name: str) -> Host:
    """The host of this name. Raises a VcenterError when there is none, or vCenter has lost it."""
    host = inventory.host(name)
    if not host.connected:
        raise HostDisconnected(f"The host is {host.connection or 'not connected'}.", object_name=host.name)
    return host


class FindHost(Step):
    """The host is there and connected, and has the GPUs."""

    name = "find-host"
    title = "Find the host and its GPUs"
    check = True

    def look(self, work: Work) -> Look:
        inventory = work.inventory()
        host = connected_host(inventory, work.parameters.host)
        gpus = [inventory.gpu(host.id, address) for address in addresses(work, inventory)]
        if not gpus:
            raise RunError(f"{host.name} has no GPU", "Name a host that has one: GET /v1/vcenters/ID/inventory.")
        return Look(True, described(host, gpus))


class SetPassthrough(Step):
    """Passthrough on (or off): at once where the host can, else through maintenance mode and a reboot."""

    name = "passthrough"
    title = "Set passthrough"

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.on = targets != ("off",)
        self.title = "Turn passthrough on" if self.on else "Turn passthrough off"

    def look(self, work: Work) -> Look:
        inventory = work.inventory()
        host = inventory.host(work.parameters.host)
        wanted = [inventory.gpu(host.id, address) for address in addresses(work, inventory)]
        plan = plan_passthrough(work.session(), inventory, host.id, [gpu.address for gpu in wanted], enable=self.on)
        before = {"passthrough_before": {gpu.address: gpu.enabled for gpu in wanted}}
        found = described(host, wanted)
        if plan.empty:
            return Look(True, found, keep=before)
        would = "; ".join(plan.steps or map(str, plan.changes))
        if plan.warnings:
            would += f" ({' '.join(plan.warnings)})"
        return Look(False, found, would, keep=before)

    def act(self, work: Work) -> str:
        return self._set(work, addresses(work, work.inventory()), on=self.on)

    def undo(self, work: Work) -> str:
        before: dict[str, bool] = work.facts.get("passthrough_before", {})
        changed = [address for address, was_on in before.items() if was_on != self.on]
        return self._set(work, changed, on=not self.on) if changed else "it was so before this run"

    def _set(self, work: Work, gpus: list[str], *, on: bool) -> str:
        session = work.session()
        plan = plan_passthrough(session, work.inventory(), work.parameters.host, gpus, enable=on)
        # Half-way through a reboot is no place to stop: a cancelled run stops behind this step.
        rebooted = apply_passthrough(session, plan, work.following(stoppable=False))
        return f"passthrough {'on' if on else 'off'} for {', '.join(gpus)}" + (
            f"; {plan.object_name} was rebooted" if rebooted else ""
        )
