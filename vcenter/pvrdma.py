"""PVRDMA: what the host needs (VMkernel tag, firewall rule set, RDMA uplink), and adapters on server and client VMs.

Without an RDMA uplink PVRDMA falls back to TCP silently, so everything is checked before anything changes.
Source: vSphere Networking, "Remote Direct Memory Access for Virtual Machines".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from vcenter import vm_spec
from vcenter.collector import read
from vcenter.errors import HostDisconnected, InvalidRequest, PvrdmaUnsupported
from vcenter.inventory import Host, Inventory, Vm
from vcenter.placement import find_port
from vcenter.plan import Change, Plan, differences
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent, wait_for_task
from vcenter.versions import Feature
from vcenter.vm_spec import Adapter

VMKNIC_OPTION = "Net.PVRDMAVmknic"
RULESET = "pvrdma"


# -- the host
# -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostPvrdma:
    """How a host stands: the tagged VMkernel adapter ("" for none), whether the rule set is open, and what is
    missing.
    """

    host: str
    host_name: str
    vmknic: str
    ruleset_open: bool
    problems: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return bool(self.vmknic) and self.ruleset_open and not self.problems


@dataclass(frozen=True)
class HostPvrdmaPlan(Plan):
    host: str = ""
    vmknic: str = ""
    set_vmknic: bool = False
    open_ruleset: bool | None = None


def host_state(session: Session, host: Host, switch_uuid: str = "") -> HostPvrdma:
    """What a host has of PVRDMA now; with a switch, also whether an RDMA NIC is that switch's only uplink there."""
    if not host.connected:
        raise HostDisconnected(f"The host is {host.connection or 'not connected'}.", object_name=host.name)
    ref = session.object(vim.HostSystem, host.id)
    with session.doing("Reading the PVRDMA settings", host.name):
        managers = read(session, ref, "configManager.advancedOption", "configManager.firewallSystem")
        vmknic = _option(managers.get("configManager.advancedOption"))
        firewall = managers.get("configManager.firewallSystem")
        info = read(session, firewall, "firewallInfo").get("firewallInfo") if firewall is not None else None
    rules = {str(rule.key): bool(rule.enabled) for rule in getattr(info, "ruleset", None) or []}
    return HostPvrdma(host.id, host.name, vmknic, rules.get(RULESET, False), tuple(uplink_problems(host, switch_uuid)))


def _option(manager: Any) -> str:
    if manager is None:
        return ""
    try:
        found = manager.QueryOptions(VMKNIC_OPTION)
    except vim.fault.InvalidName:
        return ""  # never set on this host
    return str(found[0].value or "") if found else ""


def uplink_problems(host: Host, switch_uuid: str = "") -> list[str]:
    """Why PVRDMA would not run over RDMA on this host (empty: it would). Pure."""
    if not host.rdma_nics:
        return ["the host has no RDMA NIC"]
    if not switch_uuid:
        return [] if any(nic.link_up for nic in host.rdma_nics) else ["no RDMA NIC of the host has a link"]
    switch = next((switch for switch in host.switches if switch.uuid == switch_uuid), None)
    if switch is None:
        return ["the host is not a member of the distributed switch"]
    nics = [nic for nic in host.rdma_nics if nic.switch == switch_uuid]
    if not nics:
        return [f"no RDMA NIC is an uplink of the distributed switch {switch.name}"]
    problems = [f"the RDMA NIC {nic.name} ({nic.uplink}) has no link" for nic in nics if not nic.link_up]
    if len(switch.uplinks) > 1:
        problems.append(
            f"the distributed switch {switch.name} has several uplinks here ({', '.join(switch.uplinks)}); "
            "PVRDMA needs the RDMA NIC to be the only one"
        )
    return problems


def plan_host_pvrdma(
    session: Session, inventory: Inventory, host: str, *, vmknic: str = "", enable: bool = True, network: str = ""
) -> HostPvrdmaPlan:
    """The plan that makes a host ready for PVRDMA (or takes it back). Without `vmknic` the one on the RDMA switch is
    taken.

    Raises PvrdmaUnsupported when the host has no fitting RDMA uplink or no such VMkernel adapter.
    """
    owner = inventory.host(host)
    switch = find_port(inventory, network).switch_uuid if network else ""
    state = host_state(session, owner, switch)
    if enable:
        if state.problems:
            raise PvrdmaUnsupported(f"{'; '.join(state.problems).capitalize()}.", object_name=owner.name)
        vmknic = vmknic or state.vmknic or _choose_vmknic(owner, switch)
        if vmknic not in [adapter.device for adapter in owner.vmkernel_adapters]:
            raise PvrdmaUnsupported(
                f"The host has no VMkernel adapter {vmknic!r}.",
                object_name=owner.name,
                remedy="Have: " + ", ".join(adapter.device for adapter in owner.vmkernel_adapters) + ".",
            )
    else:
        vmknic = ""
    changes = differences(
        owner.name,
        [
            ("PVRDMA VMkernel adapter", state.vmknic or None, vmknic or None),
            ("firewall rule set pvrdma", state.ruleset_open, enable),
        ],
    )
    return HostPvrdmaPlan(
        object_name=owner.name,
        changes=changes,
        host=owner.id,
        vmknic=vmknic,
        set_vmknic=state.vmknic != vmknic,
        open_ruleset=enable if state.ruleset_open != enable else None,
    )


def _choose_vmknic(host: Host, switch_uuid: str) -> str:
    switches = [switch_uuid] if switch_uuid else [nic.switch for nic in host.rdma_nics if nic.switch]
    for adapter in host.vmkernel_adapters:
        if adapter.switch and adapter.switch in switches:
            return adapter.device
    raise PvrdmaUnsupported(
        "No VMkernel adapter of the host is on the RDMA NIC's distributed switch.",
        object_name=host.name,
        remedy="Add a VMkernel adapter to that switch, or name the one to use.",
    )


def apply_host_pvrdma(session: Session, plan: HostPvrdmaPlan, progress: Progress = silent) -> None:
    """Carries the plan out. Safe to repeat."""
    ref = session.object(vim.HostSystem, plan.host)
    with session.doing("Setting PVRDMA", plan.object_name):
        managers = read(session, ref, "configManager.advancedOption", "configManager.firewallSystem")
        if plan.set_vmknic:
            progress(ProgressEvent("VMkernel tag", plan.object_name, None, plan.vmknic or "none"))
            option = vim.option.OptionValue(key=VMKNIC_OPTION, value=plan.vmknic)
            managers["configManager.advancedOption"].UpdateOptions([option])
        if plan.open_ruleset is not None:
            progress(ProgressEvent("firewall", plan.object_name, None, "open" if plan.open_ruleset else "closed"))
            firewall = managers["configManager.firewallSystem"]
            try:
                (firewall.EnableRuleset if plan.open_ruleset else firewall.DisableRuleset)(RULESET)
            except (vim.fault.NotFound, vmodl.fault.InvalidArgument):
                raise PvrdmaUnsupported(
                    f"The host's firewall has no rule set {RULESET!r}.", object_name=plan.object_name
                ) from None
    progress(ProgressEvent("PVRDMA", plan.object_name, 100))


# -- virtual machines
# -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdapterPlan(Plan):
    """`spec` is the ConfigSpec of the one reconfiguration (None: nothing to do)."""

    vm: str = ""
    spec: Any = None
    upgrade_to: int = 0


def plan_adapter(
    session: Session,
    inventory: Inventory,
    vm: str,
    network: str = "",
    *,
    protocol: str = "rocev2",
    present: bool = True,
) -> AdapterPlan:
    """The plan that gives a VM one PVRDMA adapter on a distributed portgroup, or (present=False) takes its adapters
    away.

    Memory is reserved in full with it. Raises PvrdmaUnsupported, PortgroupMissing or InvalidRequest.
    """
    machine = inventory.vm(vm)
    ref = session.object(vim.VirtualMachine, machine.id)
    with session.doing("Reading the virtual machine", machine.name):
        config = read(session, ref, "config").get("config")
    if config is None:
        raise InvalidRequest("The virtual machine's configuration cannot be read now.", object_name=machine.name)
    adapters = [device for device in config.hardware.device if vm_spec.is_pvrdma(device)]
    spec: Any = vim.vm.ConfigSpec()
    changes: list[Change] = []
    if not present:
        spec.deviceChange = [vim.vm.device.VirtualDeviceSpec(operation="remove", device=device) for device in adapters]
        changes += [
            Change(machine.name, "PVRDMA adapter", f"{d.deviceProtocol} on {vm_spec.network_name(d)}", "")
            for d in adapters
        ]
        return AdapterPlan(machine.name, tuple(changes), vm=machine.id, spec=spec if adapters else None)
    session.require(Feature.PVRDMA_PROTOCOL, machine.name)
    port = find_port(inventory, network)
    if not port.distributed:
        raise PvrdmaUnsupported(
            f"{port.name} is a standard network; PVRDMA needs a distributed one.", object_name=machine.name
        )
    wanted = Adapter(port, protocol)
    host = inventory.hosts.get(machine.host)
    warnings = [f"{host.name}: {problem}." for problem in uplink_problems(host, port.switch_uuid)] if host else []
    edit = vm_spec.differing_adapters(
        (wanted,), [d for d in config.hardware.device if vm_spec.is_pvrdma(d)], machine.name
    )
    changes += edit[1]
    if edit[0]:
        spec.deviceChange = edit[0]
    if not config.memoryReservationLockedToMax:
        changes.append(Change(machine.name, "memory reserved in full", "off", "on"))
        spec.memoryReservationLockedToMax = True
        spec.memoryAllocation = vim.ResourceAllocationInfo(reservation=config.hardware.memoryMB)
    upgrade = vm_spec.MIN_VERSION_PVRDMA if machine.hardware_version < vm_spec.MIN_VERSION_PVRDMA else 0
    if upgrade:
        _require_off(machine, f"raise its hardware version from {machine.hardware_version} to {upgrade}")
        changes.append(Change(machine.name, "hardware version", str(machine.hardware_version), str(upgrade)))
    elif machine.hardware_version < vm_spec.MIN_VERSION_PVRDMA_NATIVE_PEERS:
        warnings.append(
            f"Hardware version {machine.hardware_version} reaches PVRDMA peers only; "
            f"{vm_spec.MIN_VERSION_PVRDMA_NATIVE_PEERS} or later also reaches native RDMA ones."
        )
    return AdapterPlan(
        machine.name,
        tuple(changes),
        warnings=tuple(warnings),
        vm=machine.id,
        spec=spec if changes else None,
        upgrade_to=upgrade,
    )


def _require_off(machine: Vm, why: str) -> None:
    if machine.running:
        raise InvalidRequest(f"The machine runs; it must be off to {why}.", object_name=machine.name)


def apply_adapter(session: Session, plan: AdapterPlan, progress: Progress = silent) -> None:
    """Carries the plan out in one reconfiguration. Safe to repeat with a fresh plan."""
    ref = session.object(vim.VirtualMachine, plan.vm)
    if plan.upgrade_to:
        with session.doing("Upgrading the virtual hardware", plan.object_name):
            task = ref.UpgradeVM_Task(f"vmx-{plan.upgrade_to}")
        wait_for_task(
            session, task, "Upgrading the virtual hardware", plan.object_name, progress=progress, step="upgrade"
        )
    if plan.spec is not None:
        with session.doing("Reconfiguring", plan.object_name):
            task = ref.ReconfigVM_Task(plan.spec)
        wait_for_task(session, task, "Reconfiguring", plan.object_name, progress=progress, step="reconfigure")
