"""A host into maintenance mode, through a reboot and out again, never left half-way.

The host is back when its boot time has changed **and** it is connected: after RebootHost_Task it stays "connected"
for a while, so the connection alone proves nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vcenter.collector import objects_filter, read, retrieve
from vcenter.errors import HostBusy, HostDisconnected, TaskTimeout, VcenterError
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent, wait_for_task, watch

_STATE = ("runtime.connectionState", "runtime.bootTime", "runtime.inMaintenanceMode", "runtime.powerState")
ENTER_SECONDS = 1800
REBOOT_SECONDS = 3600


@dataclass(frozen=True)
class RunningVm:
    """A VM that is powered on on a host. `pinned`: it holds a passed-through device, so nothing can move it."""

    name: str
    pinned: bool


def running_vms(session: Session, host: Any) -> list[RunningVm]:
    """The VMs that are powered on on a host: they stand in the way of maintenance mode. Two calls, however many VMs."""
    vms = read(session, host, "vm").get("vm", [])
    if not vms:
        return []
    wanted = {vim.VirtualMachine: ["name", "runtime.powerState", "config.hardware.device"]}
    return [
        RunningVm(
            row.get("name", row.moid),
            any(isinstance(d, vim.vm.device.VirtualPCIPassthrough) for d in row.get("config.hardware.device", ())),
        )
        for row in retrieve(session, [objects_filter(vms, wanted)])
        if str(row.get("runtime.powerState", "poweredOff")) != "poweredOff"
    ]


def refuse_if_busy(session: Session, host: Any, name: str) -> None:
    """Raises HostBusy when VMs run on the host that nothing can move away: with a passed-through device, or without
    DRS.
    """
    running = running_vms(session, host)
    stuck = [vm.name for vm in running if vm.pinned]
    if stuck:
        raise HostBusy(
            f"Virtual machines with passed-through devices run on the host and cannot move: {', '.join(stuck)}.",
            object_name=name,
        )
    if running and not _can_move(session, host):
        raise HostBusy(
            f"Virtual machines run here and nothing moves them away (no DRS): {', '.join(vm.name for vm in running)}.",
            object_name=name,
        )


@contextlib.contextmanager
def maintenance(
    session: Session, host: Any, name: str, *, evacuate: bool = False, progress: Progress = silent
) -> Iterator[None]:
    """The host in maintenance mode inside the block, and out of it after, whatever happens inside.

    A host that is in maintenance mode already is left so: somebody else put it there. `evacuate` also moves
    powered-off VMs. Raises HostBusy when running VMs stand in the way, TaskTimeout when it does not get there in time.
    """
    if read(session, host, "runtime.inMaintenanceMode").get("runtime.inMaintenanceMode"):
        yield
        return
    refuse_if_busy(session, host, name)
    entered = False
    try:
        with session.doing("Entering maintenance mode", name):
            task = host.EnterMaintenanceMode_Task(ENTER_SECONDS, evacuate, None)
        entered = True
        wait_for_task(
            session,
            task,
            "Entering maintenance mode",
            name,
            timeout=ENTER_SECONDS + 60,
            progress=progress,
            step="maintenance",
        )
        yield
    except BaseException as error:
        if entered:
            _leave_after(session, host, name, error, progress)
        raise
    leave_maintenance(session, host, name, progress)


def _can_move(session: Session, host: Any) -> bool:
    parent = read(session, host, "parent").get("parent")
    if not isinstance(parent, vim.ClusterComputeResource):
        return False
    drs = read(session, parent, "configuration.drsConfig.enabled").get("configuration.drsConfig.enabled")
    return bool(drs)


def _leave_after(session: Session, host: Any, name: str, error: BaseException, progress: Progress) -> None:
    """Out of maintenance after a failure; when that fails as well, the first error says so."""
    try:
        _cancel_entering(session, host)
        await_connected(session, host, name, timeout=REBOOT_SECONDS)
        leave_maintenance(session, host, name, progress)
    except VcenterError as second:
        if isinstance(error, VcenterError):
            error.remedy += f" The host is still in maintenance mode ({second.what}): take it out by hand."


def _cancel_entering(session: Session, host: Any) -> None:
    """Cancels a maintenance-mode task that still waits for VMs to leave."""
    for task in read(session, host, "recentTask").get("recentTask", []):
        facts = read(session, task, "info.state", "info.descriptionId", "info.cancelable")
        if str(facts.get("info.descriptionId", "")).endswith("enterMaintenanceMode") and str(
            facts.get("info.state")
        ) in ("running", "queued"):
            with session.doing("Cancelling maintenance mode"):
                task.CancelTask()


def leave_maintenance(session: Session, host: Any, name: str, progress: Progress = silent) -> None:
    """Takes a host out of maintenance mode; nothing happens when it is not in it."""
    if not read(session, host, "runtime.inMaintenanceMode").get("runtime.inMaintenanceMode"):
        return
    with session.doing("Leaving maintenance mode", name):
        task = host.ExitMaintenanceMode_Task(600)
    wait_for_task(
        session, task, "Leaving maintenance mode", name, timeout=660, progress=progress, step="leave maintenance"
    )


def reboot(
    session: Session, host: Any, name: str, *, timeout: float = REBOOT_SECONDS, progress: Progress = silent
) -> None:
    """Reboots a host that is in maintenance mode and waits until it is back. `timeout` in seconds.

    Raises HostDisconnected when it is not back in time.
    """
    before = read(session, host, *_STATE)
    if str(before.get("runtime.connectionState")) != "connected":
        raise HostDisconnected("The host is not connected, so it cannot be rebooted from here.", object_name=name)
    booted = before.get("runtime.bootTime")
    started = time.monotonic()
    with session.doing("Rebooting", name):
        task = host.RebootHost_Task(False)
    with contextlib.suppress(TaskTimeout):
        wait_for_task(session, task, "Rebooting", name, timeout=timeout, progress=progress, step="reboot")
    with session.doing("Waiting for the host to come back", name):
        for values in watch(session, host, _STATE, max(1.0, timeout - (time.monotonic() - started))):
            connected = str(values.get("runtime.connectionState")) == "connected"
            progress(ProgressEvent("reboot", name, None, str(values.get("runtime.connectionState"))))
            if connected and values.get("runtime.bootTime") not in (None, booted):
                return
    raise HostDisconnected(
        f"The host did not come back within {timeout:g} s after its reboot.",
        object_name=name,
        remedy="Look at the host's console. When it is back, repeat: what is done already is not done again.",
    )


def await_connected(session: Session, host: Any, name: str, *, timeout: float) -> None:
    """Waits until a host is connected. Raises HostDisconnected after `timeout` seconds."""
    with session.doing("Waiting for the host", name):
        for values in watch(session, host, _STATE, timeout):
            if str(values.get("runtime.connectionState")) == "connected":
                return
    raise HostDisconnected(f"The host was not connected within {timeout:g} s.", object_name=name)
