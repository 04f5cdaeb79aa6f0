"""How virtual machines come to be: ready-made ones of the inventory, and CreateVM_Task."""

from typing import Any

from .api import vim
from .datastore import GIB
from .environment_browser import NEWEST_HARDWARE
from .events import machine_event
from .folder import Folder
from .managed_entity import duplicate_name
from .managed_object import Call, invalid_argument
from .resource_pool import ResourcePool
from .task import Operation, Step
from .values import build, vary
from .virtual_machine import VirtualMachine
from .virtual_machine_config import adapter, disk, new_config, scsi_controller
from .virtual_machine_spec import apply_spec
from .world import World


def register_ready(
    world: World,
    folder: Folder,
    name: str,
    host: Any,
    store: Any,
    network: Any,
    *,
    cpus: int,
    memory_mib: int,
    disk_gib: float,
    firmware: str,
    hardware: int,
    guest_id: str,
    template: bool = False,
    running: bool = False,
    extra: dict[str, str] | None = None,
    gpus: list[str] | None = None,
    annotation: str = "",
) -> VirtualMachine:
    """A virtual machine that was there before anyone looked; ``gpus`` are addresses of its host's cards."""
    config = new_config(name, cpus=cpus, memory_mib=memory_mib, firmware=firmware, hardware=hardware, guest_id=guest_id)
    path = f"[{store.name}] {name}/{name}.vmdk"
    size = int(disk_gib * GIB)
    devices = [
        *config.hardware.device,
        scsi_controller(),
        disk(2000, 1000, 0, size, store, path),
        adapter(4000, 7, network),
        *(_passthrough(host, number, address) for number, address in enumerate(gpus or ())),
    ]
    config = vary(
        config,
        template=template,
        annotation=annotation,
        hardware=vary(config.hardware, device=devices),
        files=files_of(store, name),
        datastoreUrl=[build(vim.vm.ConfigInfo.DatastoreUrlPair, name=store.name, url=store.url)],
        extraConfig=[build(vim.option.OptionValue, key=key, value=str(value)) for key, value in (extra or {}).items()],
    )
    if gpus:
        config = vary(
            config,
            memoryReservationLockedToMax=True,
            memoryAllocation=vary(config.memoryAllocation, reservation=memory_mib),
        )
    machine = VirtualMachine(world, name, folder, host, None if template else host.compute.pool, config)
    store.allocate(path, size)
    machine.register(folder, [store])
    if running:
        machine.set_running()
        machine.assigned = {13000 + number: address for number, address in enumerate(gpus or ())}
    return machine


def _passthrough(host: Any, number: int, address: str) -> Any:
    slot = host.passthrough.slots[address]
    return build(
        vim.vm.device.VirtualPCIPassthrough,
        key=13000 + number,
        controllerKey=100,
        unitNumber=18 + number,
        backing=build(
            vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo,
            deviceName="",
            id=address,
            deviceId=format(slot.device.deviceId & 0xFFFF, "x"),
            systemId=host.passthrough.system_id,
            vendorId=slot.device.vendorId,
        ),
    )


def files_of(store: Any, directory: str) -> Any:
    """Where a virtual machine's files are."""
    return build(
        vim.vm.FileInfo,
        vmPathName=f"[{store.name}] {directory}/{directory}.vmx",
        snapshotDirectory=f"[{store.name}] {directory}/",
        suspendDirectory=f"[{store.name}] {directory}/",
        logDirectory=f"[{store.name}] {directory}/",
    )


def choose_host(pool: ResourcePool, host: Any, store: Any) -> Any:
    """The host for a new machine: the one asked for if it can, else the emptiest of the pool's that can.

    Raises vmodl.fault.InvalidArgument, vim.fault.InvalidHostState, HostNotConnected, NoCompatibleHost.
    """
    compute = pool.compute
    if host is not None:
        chosen = pool.world.find(host)
        if chosen.compute is not compute:
            raise invalid_argument("host", f"{chosen.name} is not of the resource pool's {compute.name}.")
        chosen.demand_connected()
        if not chosen.usable:
            raise vim.fault.InvalidHostState(
                host=chosen.ref,
                msg=f"The operation is not allowed in the current state of {chosen.name}: it is in maintenance mode.",
            )
        if store is not None and not store.reachable_from(chosen):
            raise vim.fault.InvalidDatastore(
                datastore=store.ref, name=store.name, msg=f"{chosen.name} cannot reach the datastore {store.name}."
            )
        return chosen
    fitting = [each for each in compute.hosts if each.usable and (store is None or store.reachable_from(each))]
    if not fitting:
        raise vim.fault.NoCompatibleHost(msg=f"No host of {compute.name} is compatible with the virtual machine.")
    return max(fitting, key=lambda each: each.free_memory_mib())


def store_named(datacenter: Any, path: str) -> Any:
    """The datastore of a path such as ``[datastore1]``. Raises vim.fault.InvalidDatastorePath."""
    name = path.partition("]")[0].removeprefix("[")
    for reference in datacenter.values["datastore"]:
        found = datacenter.world.objects[reference._moId]
        if path.startswith("[") and found.name == name:
            return found
    raise vim.fault.InvalidDatastorePath(datastorePath=path, msg=f"Invalid datastore path '{path}'.")


def free_directory(store: Any, name: str) -> str:
    """The machine's name, with a number if files of that name are there already."""
    number = 0
    directory = name
    while any(path.startswith(f"[{store.name}] {directory}/") for path in store.files):
        number += 1
        directory = f"{name}_{number}"
    return directory


def create(call: Call, folder: Folder, spec: Any, pool: Any, host: Any) -> Operation:
    """CreateVM_Task: validate, make the files, register."""
    world = folder.world
    yield Step("validate", 10)
    if not spec.name:
        raise invalid_argument("configSpec.name", "A virtual machine needs a name.")
    folder.claim(spec.name)
    if spec.files is None or not spec.files.vmPathName:
        raise invalid_argument("configSpec.files.vmPathName", "A virtual machine needs a datastore.")
    store = store_named(folder.datacenter, spec.files.vmPathName)
    held_pool = world.find(pool)
    chosen = choose_host(held_pool, host, store)
    directory = spec.files.vmPathName.partition("] ")[2].partition("/")[0] or free_directory(store, spec.name)
    newest = NEWEST_HARDWARE[world.api_version[0]]
    base = vary(
        new_config(spec.name, hardware=newest, guest_id=spec.guestId or "otherGuest"),
        files=files_of(store, directory),
        datastoreUrl=[build(vim.vm.ConfigInfo.DatastoreUrlPair, name=store.name, url=store.url)],
    )
    applied = apply_spec(
        world, base, spec, host=chosen, power_state="poweredOff", directory=directory, store=store, creating=True
    )
    yield Step("create files", 50)
    applied.take_files()
    try:
        yield Step("register", 80)
        # A machine of this name may have come while the files were made.
        if folder.child(spec.name) is not None:
            raise duplicate_name(folder, spec.name)
        machine = VirtualMachine(world, spec.name, folder, chosen, held_pool, applied.config)
    except Exception:
        applied.drop_new_files()
        raise
    machine.register(folder, [store])
    world.post(machine_event("VmCreatedEvent", machine), call.user, machine)
    return machine.ref
