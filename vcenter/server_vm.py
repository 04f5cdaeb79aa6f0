"""A GPU server made, changed and removed. Every operation carries out a plan, leaves nothing half-made, and can be
repeated.

Making one: clone, deploy or import powered off onto the chosen host -> raise the hardware version where needed -> one
reconfiguration with all devices, options and the reservation -> DRS and HA settings -> power on -> wait for the
address. When a step up to the power-on fails, the machine made here is removed again; an address that does not come
leaves it running.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vcenter import cluster_rules, content_library, vm_power, vm_spec
from vcenter.cloud_init import cleared
from vcenter.collector import read
from vcenter.errors import InvalidRequest
from vcenter.inventory import Inventory
from vcenter.ovf import ImportTarget, import_ova, read_ova
from vcenter.plan import Change, Plan
from vcenter.reading import hardware_version
from vcenter.server_plan import (
    BUILDING,
    LibraryItem,
    OvaFile,
    ServerPlan,
    Template,
    is_server,
    with_system_ids,
)
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent, wait_for_task

CLONE_SECONDS = 3600


@dataclass(frozen=True)
class Server:
    """A GPU server that exists: its id, and its address ("" when it is not powered on or was not waited for)."""

    id: str
    name: str
    address: str


def apply_server(
    session: Session, plan: ServerPlan, progress: Progress = silent, *, address_timeout: float = 900.0
) -> Server:
    """Carries a plan out. Raises the error of the step that failed; what this call made is removed then.

    Raises GuestSilent when the guest reports no address within `address_timeout` seconds; the machine stays then.
    """
    request, hardware = plan.request, plan.hardware
    if request is None or hardware is None:
        raise InvalidRequest("This plan was not made by plan_server.", object_name=plan.object_name)
    if plan.leftover:
        progress(ProgressEvent("remove leftover", plan.object_name))
        _remove(session, session.object(vim.VirtualMachine, plan.leftover), plan.object_name, progress)
    if plan.vm:
        vm = session.object(vim.VirtualMachine, plan.vm)
        if plan.power_off_first:
            vm_power.power_off(session, vm, plan.object_name, progress)
        _finish(session, plan, vm, progress)
    else:
        vm = _make(session, plan, progress)
        try:
            _finish(session, plan, vm, progress)
        except BaseException as error:
            vm_power.discard(session, vm, plan.object_name, error)
            raise
    address = ""
    if request.power_on:
        address = vm_power.await_address(session, vm, plan.object_name, timeout=address_timeout, progress=progress)
    return Server(str(vm._moId), plan.object_name, address)


def _finish(session: Session, plan: ServerPlan, vm: Any, progress: Progress) -> None:
    """From a powered-off machine to a running server; every step looks first."""
    name = plan.object_name
    with session.doing("Reading the virtual machine", name):
        config = read(session, vm, "config").get("config")
        host = read(session, vm, "runtime.host").get("runtime.host")
    if config is None or host is None:
        raise InvalidRequest("The machine's configuration cannot be read.", object_name=name)
    if config.firmware != "efi":
        raise InvalidRequest(
            f"The machine's firmware is {config.firmware}; large GPUs need EFI.",
            object_name=name,
            remedy="Use an image whose guest was installed with EFI firmware.",
        )
    if hardware_version(str(config.version)) < plan.minimum_version:
        with session.doing("Raising the hardware version", name):
            task = vm.UpgradeVM_Task(f"vmx-{plan.minimum_version}")
        wait_for_task(session, task, "Raising the hardware version", name, progress=progress, step="hardware version")
    assert plan.hardware is not None  # noqa: S101 - checked by apply_server
    wanted = with_system_ids(session, str(host._moId), plan.cluster, plan.hardware)
    spec, _ = vm_spec.difference(name, wanted, config)
    if spec is not None:
        with session.doing("Reconfiguring", name):
            task = vm.ReconfigVM_Task(spec)
        wait_for_task(session, task, "Reconfiguring", name, progress=progress, step="reconfigure")
    if not plan.standalone:
        cluster = session.object(vim.ClusterComputeResource, plan.cluster)
        rules = cluster_rules.rules_for(dynamic=bool(plan.request and plan.request.dynamic))
        change, _ = cluster_rules.plan_rules(session, cluster, vm, name, rules)
        cluster_rules.apply_rules(session, cluster, change, name, progress)
    if plan.request is not None and plan.request.power_on:
        vm_power.power_on(session, vm, name, progress)


# -- making the machine
# ---------------------------------------------------------------------------------------------------


def _make(session: Session, plan: ServerPlan, progress: Progress) -> Any:
    """The new, powered-off machine on its host, marked as being built by the very call that makes it."""
    makers: dict[type, Callable[[Session, ServerPlan, Any, Progress], Any]] = {
        Template: _clone,
        LibraryItem: _deploy,
        OvaFile: _import,
    }
    source = plan.request.source if plan.request else None
    return makers[type(source)](session, plan, source, progress)


def _clone(session: Session, plan: ServerPlan, _source: Template, progress: Progress) -> Any:
    where = vim.vm.RelocateSpec(
        host=session.object(vim.HostSystem, plan.host),
        pool=session.object(vim.ResourcePool, plan.pool),
        datastore=session.object(vim.Datastore, plan.datastore),
    )
    spec = vim.vm.CloneSpec(
        location=where, powerOn=False, template=False, config=vim.vm.ConfigSpec(annotation=BUILDING)
    )
    template = session.object(vim.VirtualMachine, plan.source_id)
    folder = session.object(vim.Folder, plan.folder)
    with session.doing("Cloning", plan.object_name):
        task = template.CloneVM_Task(folder=folder, name=plan.object_name, spec=spec)
    return wait_for_task(
        session, task, "Cloning", plan.object_name, timeout=CLONE_SECONDS, progress=progress, step="clone"
    )


def _deploy(session: Session, plan: ServerPlan, _source: LibraryItem, progress: Progress) -> Any:
    progress(ProgressEvent("deploy", plan.object_name))
    target = content_library.DeployTarget(
        pool=plan.pool,
        host=plan.host,
        folder=plan.folder,
        datastore=plan.datastore,
        network=plan.network_id,
        name=plan.object_name,
        annotation=BUILDING,
    )
    return session.object(vim.VirtualMachine, content_library.deploy(session, plan.source_id, target))


def _import(session: Session, plan: ServerPlan, source: OvaFile, progress: Progress) -> Any:
    target = ImportTarget(
        pool=session.object(vim.ResourcePool, plan.pool),
        host=session.object(vim.HostSystem, plan.host),
        folder=session.object(vim.Folder, plan.folder),
        datastore=session.object(vim.Datastore, plan.datastore),
        network=session.object(vim.Network, plan.network_id),
        name=plan.object_name,
        annotation=BUILDING,
    )
    return import_ova(session, read_ova(source.path, check=False), target, progress)


# -- removing it
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RemovalPlan(Plan):
    """`vm` is "" when there is nothing to remove. `delete` False: the GPUs are given back, the machine stays, off."""

    vm: str = ""
    delete: bool = True


def plan_removal(session: Session, inventory: Inventory, name: str, *, delete: bool = True) -> RemovalPlan:
    """The plan that powers a GPU server off, gives its GPUs back and (with `delete`) deletes it.

    An empty plan when it is gone already. Raises InvalidRequest when the machine is no GPU server of ours.
    """
    found = [vm for vm in inventory.vms.values() if name in (vm.name, vm.id) and not vm.template]
    if not found:
        return RemovalPlan(object_name=name)
    vm = inventory.vm(name)
    ref = session.object(vim.VirtualMachine, vm.id)
    with session.doing("Reading the virtual machine", vm.name):
        config = read(session, ref, "config").get("config")
    if config is None or not (is_server(config) or (config.annotation or "").startswith(BUILDING)):
        raise InvalidRequest(
            "This machine is no GPU server of gpuferry, so it is not removed.",
            object_name=vm.name,
            remedy="Remove it in the vSphere client if it is yours to remove.",
        )
    changes = []
    if vm.running:
        changes.append(Change(vm.name, "power", "on", "off"))
    for device in config.hardware.device:
        gpu = vm_spec.gpu_of(device)
        if gpu is not None:
            changes.append(Change(vm.name, "GPU", getattr(gpu, "address", "") or "dynamic", ""))
    if delete:
        changes.append(Change(vm.name, "virtual machine with its disks", "there", ""))
    steps = (["power off"] if vm.running else []) + ["delete" if delete else "remove its GPUs"]
    return RemovalPlan(vm.name, tuple(changes), tuple(steps) if changes else (), vm=vm.id, delete=delete)


def apply_removal(session: Session, plan: RemovalPlan, progress: Progress = silent) -> None:
    """Carries a removal out. Safe to repeat."""
    if not plan.vm or plan.empty:
        return
    vm = session.object(vim.VirtualMachine, plan.vm)
    if plan.delete:
        _remove(session, vm, plan.object_name, progress)
        return
    vm_power.power_off(session, vm, plan.object_name, progress)
    release_gpus(session, vm, plan.object_name, progress)


def _remove(session: Session, vm: Any, name: str, progress: Progress) -> None:
    vm_power.power_off(session, vm, name, progress)
    vm_power.delete(session, vm, name, progress)


def release_gpus(session: Session, vm: Any, name: str, progress: Progress = silent) -> int:
    """Takes all passthrough devices from a powered-off machine, in one reconfiguration; how many there were."""
    with session.doing("Reading the virtual machine", name):
        devices = read(session, vm, "config.hardware.device").get("config.hardware.device", [])
    gpus = [device for device in devices if vm_spec.gpu_of(device) is not None]
    if gpus:
        changes = [vim.vm.device.VirtualDeviceSpec(operation="remove", device=device) for device in gpus]
        with session.doing("Removing the GPUs", name):
            task = vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=changes))
        wait_for_task(session, task, "Removing the GPUs", name, progress=progress, step="remove GPUs")
    return len(gpus)


def clear_cloud_init(session: Session, vm: Any, name: str, progress: Progress = silent) -> bool:
    """Empties the cloud-init keys after the guest has enrolled; False when they were empty already."""
    with session.doing("Reading the virtual machine", name):
        options = read(session, vm, "config.extraConfig").get("config.extraConfig", [])
    changes = vm_spec.option_changes(cleared(), options)
    if not changes:
        return False
    spec = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key=key, value="") for key in changes])
    with session.doing("Clearing the cloud-init data", name):
        task = vm.ReconfigVM_Task(spec)
    wait_for_task(session, task, "Clearing the cloud-init data", name, progress=progress, step="clear cloud-init")
    return True
