"""DirectPath I/O passthrough of GPUs on and off, through maintenance mode and reboot where the host needs it.

`plan_passthrough` looks and says what would happen; `apply_passthrough` does it: the whole group of dependent devices
in one call, at once where the host can, else maintenance mode -> reboot -> verify active. A host is never left in
maintenance mode. Source: vSphere Web Services API, HostPciPassthruSystem.UpdatePassthruConfig,
PciPassthruConfig.applyNow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vcenter import host_power
from vcenter.collector import read
from vcenter.errors import DeviceInUse, DeviceNotReady, GraphicsTypeForbids, HostDisconnected, InvalidRequest
from vcenter.inventory import Gpu, Inventory, unique
from vcenter.plan import Change, Plan
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent
from vcenter.versions import Feature


@dataclass(frozen=True)
class PassthroughPlan(Plan):
    """`devices` are the addresses whose setting changes, `verify` those that must be active (or not) in the end."""

    host: str = ""
    enable: bool = True
    devices: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    apply_now: bool = True
    reboot_pending: bool = False


def plan_passthrough(
    session: Session,
    inventory: Inventory,
    host: str,
    addresses: Sequence[str] = (),
    *,
    enable: bool = True,
    label: str | None = None,
    allow_reboot: bool = True,
) -> PassthroughPlan:
    """The plan that turns passthrough on or off for GPUs of a host (all its GPUs when no address is given).

    `label` sets the hardware label that dynamic passthrough can ask for ("" removes it; None leaves it).
    Raises NotFound, HostDisconnected, DeviceInUse, GraphicsTypeForbids, DeviceNotReady or ApiTooOld; changes nothing.
    """
    owner = inventory.host(host)
    if not owner.connected:
        raise HostDisconnected(f"The host is {owner.connection or 'not connected'}.", object_name=owner.name)
    gpus = [inventory.gpu(owner.id, address) for address in addresses] or list(owner.gpus)
    if not gpus:
        raise InvalidRequest("The host has no GPU.", object_name=owner.name)
    if label is not None:
        session.require(Feature.HARDWARE_LABEL, owner.name)
    for gpu in gpus:
        _refuse_if_forbidden(gpu, inventory, enable)
    states = _passthrough_infos(session, owner.id)
    members = unique(address for gpu in gpus for address in gpu.group)
    settable = [address for address in members if getattr(states.get(address), "passthruCapable", False)]
    for gpu in gpus:
        if gpu.address not in settable:
            raise DeviceNotReady(
                f"{gpu.name} at {gpu.address} is not capable of passthrough.",
                object_name=owner.name,
                remedy="Turn on VT-d/AMD-Vi and Above 4G Decoding in the host's firmware.",
            )
    labels = {gpu.address: label for gpu in gpus if label is not None and gpu.hardware_label != label}
    changing = [address for address in settable if bool(states[address].passthruEnabled) != enable or address in labels]
    changes = [
        Change(owner.name, f"passthrough of {address}", _on(not enable), _on(enable))
        for address in settable
        if bool(states[address].passthruEnabled) != enable
    ]
    changes += [
        Change(owner.name, f"hardware label of {gpu.address}", gpu.hardware_label, labels[gpu.address])
        for gpu in gpus
        if gpu.address in labels
    ]
    pending = any(bool(states[address].passthruActive) != enable for address in settable)
    can_now = _can_apply_now(session, owner.id)
    steps: list[str] = []
    if changing:
        steps.append("set passthrough of " + ", ".join(changing) + (" at once where the host can" if can_now else ""))
    if pending and allow_reboot:
        steps.append("if the host still asks for it: maintenance mode, reboot, leave maintenance mode")
    if pending:
        steps.append(f"verify that passthrough is {'active' if enable else 'off'}")
    warnings = []
    others = [other.name for other in owner.gpus if other.address in members and other not in gpus]
    if others:
        warnings.append(f"These change with it, for they depend on each other: {', '.join(others)}.")
    running = [vm.name for vm in inventory.vms_on(owner.id) if vm.running]
    if pending and running:
        warnings.append(f"If a reboot is needed, these must move or stop first: {', '.join(running)}.")
    return PassthroughPlan(
        object_name=owner.name,
        changes=tuple(changes),
        steps=tuple(steps),
        warnings=tuple(warnings),
        host=owner.id,
        enable=enable,
        devices=tuple(changing),
        verify=tuple(settable),
        labels=tuple(labels.items()),
        apply_now=can_now,
        reboot_pending=pending and allow_reboot,
    )


def _on(enable: bool) -> str:
    return "on" if enable else "off"


def _refuse_if_forbidden(gpu: Gpu, inventory: Inventory, enable: bool) -> None:
    """A card in use does not change under the VM that uses it; a vGPU card is not for passthrough."""
    owner = inventory.hosts[gpu.host]
    together = [other for other in owner.gpus if other.address in gpu.group]
    if gpu.enabled == enable and gpu.active == enable:
        return
    for card in together:
        users = [user.name for user in card.users if user.running]
        if users:
            raise DeviceInUse(
                f"{card.name} at {card.address} is used by {', '.join(users)}, which runs.", object_name=gpu.host_name
            )
        if enable and card.graphics_type == "sharedDirect":
            raise GraphicsTypeForbids(
                f"{card.name} at {card.address} has the graphics type Shared Direct (vGPU).", object_name=gpu.host_name
            )
        if not enable and card.users:
            raise DeviceInUse(
                f"{card.name} at {card.address} is still a device of {', '.join(u.name for u in card.users)}.",
                object_name=gpu.host_name,
                remedy="Remove it from the virtual machine first: `gpuferry vcenter server remove`.",
            )


def _can_apply_now(session: Session, host: str) -> bool:
    """Whether to ask the host to rebind devices at once; a host that says that it cannot is not asked to."""
    if not session.has(Feature.PASSTHROUGH_APPLY_NOW):
        return False
    path = "capability.deviceRebindWithoutRebootSupported"
    with session.doing("Reading the host's capabilities", host):
        return read(session, session.object(vim.HostSystem, host), path).get(path) is not False


def _passthrough_infos(session: Session, host: str) -> dict[str, Any]:
    ref = session.object(vim.HostSystem, host)
    with session.doing("Reading the passthrough state", host):
        infos = read(session, ref, "config.pciPassthruInfo").get("config.pciPassthruInfo", [])
    return {str(info.id): info for info in infos}


def apply_passthrough(
    session: Session,
    plan: PassthroughPlan,
    progress: Progress = silent,
    *,
    reboot_timeout: float = host_power.REBOOT_SECONDS,
) -> bool:
    """Carries a plan out; True when the host was rebooted. Safe to repeat: what is so already is not done again.

    Raises HostBusy when running VMs keep the host from its maintenance mode, HostDisconnected when it does not come
    back, DeviceNotReady when the devices are not as wanted in the end.
    """
    ref = session.object(vim.HostSystem, plan.host)
    rebooted = False
    if plan.devices:
        progress(ProgressEvent("passthrough", plan.object_name, None, ", ".join(plan.devices)))
        _update(session, ref, plan)
    waiting = _not_yet(session, plan)
    if waiting and plan.reboot_pending:
        with host_power.maintenance(session, ref, plan.object_name, progress=progress):
            host_power.reboot(session, ref, plan.object_name, timeout=reboot_timeout, progress=progress)
        rebooted = True
        waiting = _not_yet(session, plan)
    if waiting:
        raise DeviceNotReady(
            f"Passthrough of {', '.join(waiting)} is set but not {'active' if plan.enable else 'off'} yet.",
            object_name=plan.object_name,
            remedy="Reboot the host."
            if not rebooted
            else "The reboot did not change it: look at the host's PCI device list and its vmkernel log.",
        )
    progress(ProgressEvent("passthrough", plan.object_name, 100, "active" if plan.enable else "off"))
    return rebooted


def _update(session: Session, ref: Any, plan: PassthroughPlan) -> None:
    labels = dict(plan.labels)
    configs = []
    for address in plan.devices:
        config = vim.host.PciPassthruConfig(id=address, passthruEnabled=plan.enable)
        if plan.apply_now:
            config.applyNow = True
        if address in labels:
            config.hardwareLabel = labels[address]
        configs.append(config)
    with session.doing("Changing passthrough", plan.object_name):
        system = read(session, ref, "configManager.pciPassthruSystem").get("configManager.pciPassthruSystem")
        if system is None:
            raise InvalidRequest("This host has no PCI passthrough system.", object_name=plan.object_name)
        system.UpdatePassthruConfig(configs)
        system.Refresh()


def _not_yet(session: Session, plan: PassthroughPlan) -> list[str]:
    """Devices that are not yet as the plan wants them."""
    states = _passthrough_infos(session, plan.host)
    return [
        address
        for address in plan.verify
        if bool(getattr(states.get(address), "passthruActive", False)) != plan.enable
        or bool(getattr(states.get(address), "passthruEnabled", False)) != plan.enable
    ]
