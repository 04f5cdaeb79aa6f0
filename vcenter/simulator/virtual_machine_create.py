"""How virtual machines come to be: ready-made ones of the inventory, CreateVM, CloneVM."""

from typing import Any

from .api import vim
from .datastore import GIB
from .folder import Folder
from .values import build, vary
from .virtual_machine import VirtualMachine
from .virtual_machine_config import adapter, disk, new_config, scsi_controller
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
    """A virtual machine that was there before anyone looked."""
    config = new_config(name, cpus=cpus, memory_mib=memory_mib, firmware=firmware, hardware=hardware, guest_id=guest_id)
    path = f"[{store.name}] {name}/{name}.vmdk"
    size = int(disk_gib * GIB)
    devices = [
        *config.hardware.device,
        scsi_controller(),
        disk(2000, 1000, 0, size, store, path),
        adapter(4000, 7, network),
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
    machine = VirtualMachine(world, name, folder, host, None if template else host.compute.pool, config)
    store.allocate(path, size)
    machine.register(folder, [store], [network])
    if gpus:
        machine.give_ready(gpus)
    if running:
        machine.set_running()
    return machine


def files_of(store: Any, directory: str) -> Any:
    """Where a virtual machine's files are."""
    return build(
        vim.vm.FileInfo,
        vmPathName=f"[{store.name}] {directory}/{directory}.vmx",
        snapshotDirectory=f"[{store.name}] {directory}/",
        suspendDirectory=f"[{store.name}] {directory}/",
        logDirectory=f"[{store.name}] {directory}/",
    )
