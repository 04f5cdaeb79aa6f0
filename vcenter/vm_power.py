"""Power, address and end of one VM. Every operation looks first, so every one can be repeated."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from typing import Any

from pyVmomi import vim

from vcenter.collector import read
from vcenter.errors import GuestSilent, VcenterError
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent, wait_for_task, watch

_POWER = "runtime.powerState"
SHUTDOWN_SECONDS = 120


def is_on(session: Session, vm: Any) -> bool:
    return str(read(session, vm, _POWER).get(_POWER, "poweredOff")) != "poweredOff"


def power_on(session: Session, vm: Any, name: str, progress: Progress = silent, timeout: float = 600.0) -> bool:
    """Powers a VM on; False when it was on already. Raises NoCapacity, DeviceInUse or TaskFailed, as vCenter
    answers.
    """
    with session.doing("Powering on", name):
        if is_on(session, vm):
            return False
        task = vm.PowerOnVM_Task(None)
    wait_for_task(session, task, "Powering on", name, timeout=timeout, progress=progress, step="power on")
    return True


def power_off(
    session: Session, vm: Any, name: str, progress: Progress = silent, shutdown_seconds: float = SHUTDOWN_SECONDS
) -> bool:
    """Powers a VM off; False when it was off already.

    The guest is asked to shut down first, when VMware Tools run, and given `shutdown_seconds` (0: no time) for it.
    """
    with session.doing("Powering off", name):
        facts = read(session, vm, _POWER, "guest.toolsRunningStatus")
        if str(facts.get(_POWER, "poweredOff")) == "poweredOff":
            return False
        if str(facts.get("guest.toolsRunningStatus")) == "guestToolsRunning" and shutdown_seconds > 0:
            progress(ProgressEvent("shut down", name))
            with contextlib.suppress(vim.fault.ToolsUnavailable, vim.fault.InvalidPowerState):
                vm.ShutdownGuest()
                for values in watch(session, vm, (_POWER,), shutdown_seconds):
                    if str(values.get(_POWER)) == "poweredOff":
                        return True
        if not is_on(session, vm):
            return True
        task = vm.PowerOffVM_Task()
    wait_for_task(session, task, "Powering off", name, progress=progress, step="power off")
    return True


def delete(session: Session, vm: Any, name: str, progress: Progress = silent) -> None:
    """Deletes a VM with its disks. It must be off."""
    with session.doing("Deleting", name):
        task = vm.Destroy_Task()
    wait_for_task(session, task, "Deleting", name, progress=progress, step="delete")


def usable(address: str) -> bool:
    """Whether a guest address is one that others can reach: no link-local, loopback or empty one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_link_local or parsed.is_loopback or parsed.is_unspecified)


def addresses_of(values: dict[str, Any]) -> list[str]:
    """The guest's usable addresses from its properties, IPv4 first, each once."""
    found = [str(values.get("guest.ipAddress") or "")]
    for nic in values.get("guest.net") or []:
        found += [str(address) for address in nic.ipAddress or []]
    usable_ones = [address for address in dict.fromkeys(found) if usable(address)]
    return sorted(usable_ones, key=lambda address: ":" in address)


def await_address(session: Session, vm: Any, name: str, *, timeout: float = 600.0, progress: Progress = silent) -> str:
    """Waits for the guest's address, as VMware Tools report it. Raises GuestSilent after `timeout` seconds."""
    started = time.monotonic()
    tools = ""
    with session.doing("Waiting for the guest's address", name):
        for values in watch(session, vm, ("guest.ipAddress", "guest.net", "guest.toolsRunningStatus", _POWER), timeout):
            tools = str(values.get("guest.toolsRunningStatus") or "")
            addresses = addresses_of(values)
            if addresses:
                progress(ProgressEvent("address", name, 100, addresses[0]))
                return addresses[0]
            if str(values.get(_POWER)) == "poweredOff":
                raise GuestSilent("The machine was powered off while it was waited for.", object_name=name)
            progress(
                ProgressEvent("address", name, None, f"{time.monotonic() - started:.0f} s, tools: {tools or 'unknown'}")
            )
    raise GuestSilent(
        f"The guest reported no address within {timeout:g} s (VMware Tools: {tools or 'unknown'}).", object_name=name
    )


def discard(session: Session, vm: Any, name: str, error: BaseException) -> None:
    """Removes a VM that a failed operation has made; when that fails too, the first error says what was left."""
    try:
        power_off(session, vm, name, shutdown_seconds=0)
        delete(session, vm, name)
    except VcenterError as second:
        if isinstance(error, VcenterError):
            error.remedy += f" The half-made machine {name} is still there ({second.what}): the repeat removes it."
