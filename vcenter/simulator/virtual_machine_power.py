"""Power of virtual machines: on with all the checks the hypervisor makes, off, reset, suspend."""

from collections.abc import Callable
from typing import Any

from .api import MethodFault, vim, vmodl
from .events import machine_event
from .managed_object import Call, invalid_argument
from .task import Operation, Step
from .values import now, vary
from .virtual_machine_rules import assign_devices, check_configuration, check_memory, check_mmio, passthrough_devices

# How many paces a guest takes to shut down when it is asked to.
SHUTDOWN_PACES = 3.0
_device: Any = vim.vm.device


def power_on(call: Call, machine: Any, host: Any) -> Operation:
    """PowerOnVM_Task: validate, reserve, start; a failed start leaves everything as it was."""
    with machine.exclusive():
        if machine.power_state != "suspended":
            machine.demand_power("poweredOff", "poweredOn")
        if machine.is_template:
            raise vmodl.fault.NotSupported(msg=f"{machine.name} is a template.")
        if host is not None and host._moId != machine.host.moid:
            raise invalid_argument("host", f"{machine.name} is not on that host.")
        try:
            yield Step("validate", 10)
            target = place(machine)
            yield Step("reserve", 40)
            check_configuration(machine)
            check_memory(machine, target)
            assigned = assign_devices(machine, target)
            check_mmio(machine, target, assigned)
            yield Step("power on", 80, weight=2.0)
            # Between the check and now others may have taken what was free.
            target.demand_connected()
            check_memory(machine, target)
            assigned = assign_devices(machine, target)
        except MethodFault as fault:
            machine.world.post(machine_event("VmFailedToPowerOnEvent", machine, reason=fault), call.user, machine)
            raise
        if target is not machine.host:
            machine.move_to(target)
        switch_on(machine, assigned)
        machine.world.post(machine_event("VmPoweredOnEvent", machine), call.user, machine)


def place(machine: Any) -> Any:
    """The host to start on: the machine's own, or for dynamic devices any of the cluster that DRS finds.

    Raises vmodl.fault.HostNotConnected, InvalidHostState, or what the machine's own host says.
    """
    own = machine.host
    fault: Any = None
    try:
        _demand_startable(own)
        assign_devices(machine, own)
        return own
    except MethodFault as reason:
        fault = reason
    fixed = any(
        isinstance(each.backing, _device.VirtualPCIPassthrough.DeviceBackingInfo)
        for each in passthrough_devices(machine.config)
    )
    if not fixed and own.compute.places_machines():
        for other in own.compute.hosts:
            if other is own or not machine.fits(other):
                continue
            try:
                assign_devices(machine, other)
            except MethodFault:
                continue
            return other
    raise fault


def _demand_startable(host: Any) -> None:
    host.demand_connected()
    if not host.usable:
        raise vim.fault.InvalidHostState(
            host=host.ref,
            msg=f"The operation is not allowed in the current state of {host.name}: it is in maintenance mode.",
        )


def switch_on(machine: Any, assigned: dict[int, str] | None = None) -> None:
    """The machine runs."""
    machine.boots += 1
    machine.assigned = dict(assigned or {})
    machine.note(
        powerState="poweredOn",
        bootTime=now(),
        suspendTime=None,
        cleanPowerOff=None,
        maxMemoryUsage=machine.config.hardware.memoryMB,
    )
    _connect_adapters(machine, True)
    machine.host.machines_changed()
    machine.world.guests.start(machine)


def switch_off(machine: Any, clean: bool = True) -> None:
    """The machine no longer runs."""
    if machine.power_state == "poweredOff":
        return
    machine.assigned = {}
    machine.note(powerState="poweredOff", bootTime=None, cleanPowerOff=clean)
    _connect_adapters(machine, False)
    machine.guest_is_down()
    machine.host.machines_changed()
    machine.world.guests.stop(machine)


def _connect_adapters(machine: Any, on: bool) -> None:
    config = machine.config
    devices = list(config.hardware.device)
    for at, each in enumerate(devices):
        changes: dict[str, Any] = {}
        if isinstance(each, _device.VirtualEthernetCard) and each.connectable is not None:
            connected = on and bool(each.connectable.startConnected)
            changes["connectable"] = vary(
                each.connectable, connected=connected, status="ok" if connected else "untried"
            )
        elif isinstance(each.backing, _device.VirtualPCIPassthrough.DynamicBackingInfo):
            changes["backing"] = vary(each.backing, assignedId=machine.assigned.get(each.key) if on else None)
        if changes:
            devices[at] = vary(each, **changes)
    machine.set("config", vary(config, hardware=vary(config.hardware, device=devices)))


def power_off(call: Call, machine: Any) -> Operation:
    """PowerOffVM_Task."""
    with machine.exclusive():
        if machine.power_state != "suspended":
            machine.demand_power("poweredOn", "poweredOff")
        yield Step("power off", 50)
        machine.host.demand_connected()
        switch_off(machine)
        machine.world.post(machine_event("VmPoweredOffEvent", machine), call.user, machine)


def reset(call: Call, machine: Any) -> Operation:
    """ResetVM_Task."""
    with machine.exclusive():
        machine.demand_power("poweredOn", "poweredOn")
        yield Step("reset", 50)
        machine.host.demand_connected()
        restart_guest(machine)
        machine.world.post(machine_event("VmResettingEvent", machine), call.user, machine)


def suspend(call: Call, machine: Any) -> Operation:
    """SuspendVM_Task."""
    with machine.exclusive():
        machine.demand_power("poweredOn", "suspended")
        if not machine.may_move():
            raise vim.fault.InvalidState(msg=f"{machine.name} has PCI passthrough devices: it cannot be suspended.")
        yield Step("suspend", 50)
        switch_off(machine)
        machine.world.post(machine_event("VmSuspendedEvent", machine), call.user, machine)
        machine.note(powerState="suspended", suspendTime=now())


def restart_guest(machine: Any) -> None:
    """The guest boots again; power and devices stay."""
    machine.guest_is_down()
    machine.world.guests.stop(machine)
    machine.boots += 1
    machine.note(bootTime=now())
    machine.world.guests.start(machine)


def ask_guest(machine: Any, then: Callable[[], None], call: Call) -> None:
    """What the guest does when its tools ask it to. Raises vim.fault.ToolsUnavailable."""
    machine.demand_power("poweredOn", "poweredOff")
    if machine.values["guest"].toolsRunningStatus != "guestToolsRunning":
        raise vim.fault.ToolsUnavailable(
            msg="Cannot complete operation because VMware Tools is not running in this virtual machine."
        )
    boot = machine.boots
    world = machine.world

    def act() -> None:
        if machine.power_state == "poweredOn" and machine.boots == boot:
            then()

    world.clock.later(world.pace * SHUTDOWN_PACES, act)
