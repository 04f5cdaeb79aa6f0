"""CloneVM_Task and RelocateVM_Task: a copy that shares nothing with its source, and a change of place."""

from typing import Any

from .api import vim
from .events import machine_event
from .managed_entity import duplicate_name
from .managed_object import Call, invalid_argument
from .task import Operation, Step
from .values import build, deep_copy, now, vary
from .virtual_machine import VirtualMachine
from .virtual_machine_config import new_config, new_mac
from .virtual_machine_create import choose_host, files_of, free_directory
from .virtual_machine_power import power_on
from .virtual_machine_spec import apply_spec

_device: Any = vim.vm.device


def clone(call: Call, source: VirtualMachine, folder: Any, name: str, spec: Any) -> Operation:
    """Validate, copy the disks, register, and power on if asked; a failed copy leaves nothing behind."""
    world = source.world
    yield Step("validate", 5)
    target_folder = world.find(folder)
    target_folder.claim(name)
    location = spec.location
    if source.power_state == "poweredOn" and not source.may_move():
        raise vim.fault.InvalidState(
            msg=f"{source.name} runs with PCI passthrough devices: it cannot be cloned while powered on."
        )
    pool = _pool(source, location, spec.template)
    store = world.find(location.datastore) if location.datastore is not None else source.store
    if pool is not None:
        asked = location.host
        if asked is None and pool.compute is source.host.compute and source.host.usable:
            asked = source.host.ref
        host = choose_host(pool, asked, store)
    else:
        host = world.find(location.host) if location.host is not None else source.host
        host.demand_connected()
    directory = free_directory(store, name)
    config, copies = _copied(source, name, store, directory)
    for change in location.deviceChange:
        if change.operation != "edit" or not isinstance(change.device, _device.VirtualEthernetCard):
            raise invalid_argument("spec.location.deviceChange", "Only network adapters may be changed here.")
    changes = build(vim.vm.ConfigSpec, deviceChange=list(location.deviceChange))
    given = vary(spec.config, name=name) if spec.config is not None else build(vim.vm.ConfigSpec)
    for each in (changes, given):
        applied = apply_spec(world, config, each, host=host, power_state="poweredOff", directory=directory, store=store)
        config = applied.config
        copies += applied.new_files
    taken: list[tuple[Any, str]] = []
    try:
        for progress in (20, 40, 60):
            yield Step("copy disks", progress)
        for held, path, size in copies:
            held.allocate(path, size)
            taken.append((held, path))
        yield Step("register", 80)
        if target_folder.child(name) is not None:
            raise duplicate_name(target_folder, name)
        config = vary(config, name=name, template=bool(spec.template))
        if spec.customization is not None:
            pending = vary(config.tools, pendingCustomization=spec.customization.identity._wsdlName)
            config = vary(config, tools=pending)
        machine = VirtualMachine(world, name, target_folder, host, None if spec.template else pool, config)
    except Exception:
        for held, path in taken:
            held.release(path)
        raise
    machine.register(target_folder, [store])
    machine.nvram = {"source": source.moid, "customization": deep_copy(spec.customization)}
    event = machine_event("VmClonedEvent", machine, source=source.name)
    world.post(event, call.user, machine)
    if spec.powerOn:
        yield from power_on(call, machine, None)
    return machine.ref


def _pool(source: VirtualMachine, location: Any, template: bool) -> Any:
    if template:
        return None
    reference = location.pool or source.values["resourcePool"]
    if reference is None:
        raise invalid_argument("spec.location.pool", "A machine made of a template needs a resource pool.")
    return source.world.find(reference)


def _copied(source: VirtualMachine, name: str, store: Any, directory: str) -> tuple[Any, list[Any]]:
    fresh = new_config(name)
    copies: list[Any] = []
    devices = []
    for each in deep_copy(source.config.hardware.device):
        device = each
        if isinstance(each, _device.VirtualDisk):
            number = len(copies)
            path = f"[{store.name}] {directory}/{directory}{f'_{number}' if number else ''}.vmdk"
            copies.append((store, path, each.capacityInBytes))
            device = vary(each, backing=vary(each.backing, fileName=path, datastore=store.ref, parent=None))
        elif isinstance(each, _device.VirtualEthernetCard) and each.addressType not in {"manual", "Manual"}:
            device = vary(each, macAddress=new_mac())
        devices.append(device)
    config = vary(
        deep_copy(source.config),
        name=name,
        uuid=fresh.uuid,
        instanceUuid=fresh.instanceUuid,
        createDate=now(),
        files=files_of(store, directory),
        datastoreUrl=[build(vim.vm.ConfigInfo.DatastoreUrlPair, name=store.name, url=store.url)],
        hardware=vary(source.config.hardware, device=devices),
        template=False,
    )
    return config, copies


def relocate(call: Call, machine: VirtualMachine, spec: Any) -> Operation:
    """Validate, copy the disks if the datastore changes, switch over."""
    world = machine.world
    with machine.exclusive():
        yield Step("validate", 10)
        running = machine.power_state == "poweredOn"
        pool = world.find(spec.pool) if spec.pool is not None else None
        host = world.find(spec.host) if spec.host is not None else None
        store = world.find(spec.datastore) if spec.datastore is not None else None
        if host is None and pool is not None and pool.compute is not machine.host.compute:
            host = choose_host(pool, None, store or machine.store)
        if host is not None and host is not machine.host:
            if running and not machine.may_move():
                raise vim.fault.MigrationFeatureNotSupported(
                    atSourceHost=True,
                    failedHostName=machine.host.name,
                    failedHost=machine.host.ref,
                    msg=f"{machine.name} has PCI passthrough devices: it cannot be migrated while powered on.",
                )
            if not machine.fits(host):
                raise vim.fault.InvalidHostState(host=host.ref, msg=f"{host.name} cannot run {machine.name}.")
            if host.compute is not machine.host.compute and pool is None:
                raise invalid_argument("spec.pool", "Another cluster needs another resource pool.")
        if store is not None and store is not machine.store:
            yield from _move_disks(machine, store)
        yield Step("switch over", 90)
        if host is not None and host is not machine.host:
            machine.move_to(host)
        if pool is not None:
            machine._enter_pool(pool.ref)


def _move_disks(machine: VirtualMachine, store: Any) -> Operation:
    directory = free_directory(store, machine.name)
    config = machine.config
    devices, moved = [], []
    for each in config.hardware.device:
        device = each
        if isinstance(each, _device.VirtualDisk):
            path = f"[{store.name}] {directory}/{each.backing.fileName.rpartition('/')[2]}"
            moved.append(
                (machine.world.find(each.backing.datastore), each.backing.fileName, path, each.capacityInBytes)
            )
            device = vary(each, backing=vary(each.backing, fileName=path, datastore=store.ref))
        devices.append(device)
    yield Step("copy disks", 50)
    if sum(size for _, _, _, size in moved) > store.free:
        raise vim.fault.NoDiskSpace(
            datastore=store.name, file=directory, msg=f"Insufficient disk space on datastore '{store.name}'."
        )
    for before, path, after, size in moved:
        store.allocate(after, size)
        before.release(path)
    machine.set_config(
        vary(
            config,
            hardware=vary(config.hardware, device=devices),
            files=files_of(store, directory),
            datastoreUrl=[build(vim.vm.ConfigInfo.DatastoreUrlPair, name=store.name, url=store.url)],
        )
    )
