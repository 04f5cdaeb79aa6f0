"""What a GPU server should be, and the plan that makes it so from whatever is there: nothing, a half-made one, or a
whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyVmomi import vim

from vcenter import content_library, mmio, vm_spec
from vcenter.cloud_init import CloudInit
from vcenter.collector import read
from vcenter.errors import DeviceInUse, HostBusy, InvalidRequest, NameTaken, NotFound
from vcenter.inventory import Gpu, Inventory, Vm
from vcenter.ovf import read_ova
from vcenter.placement import Placement, Wish, find_port, place
from vcenter.plan import Change, Plan
from vcenter.session import Session
from vcenter.versions import Feature
from vcenter.vm_spec import Adapter, DynamicGpu, FixedGpu, GpuDevice, Hardware

ROLE_KEY = "gpuferry.role"
ROLE_SERVER = "gpu-server"
# The notes of a machine that is not finished. It is set with the very call that makes the machine, so that a
# half-made one can always be told from a finished one and from other people's.
BUILDING = "gpuferry: this GPU server is being built. Do not power it on."
NOTES = "gpuferry GPU server"


@dataclass(frozen=True)
class Template:
    """A VM template (or a powered-off VM) by name or id."""

    name: str


@dataclass(frozen=True)
class LibraryItem:
    """An OVF item of a content library."""

    library: str
    item: str


@dataclass(frozen=True)
class OvaFile:
    """An OVA file on this machine."""

    path: Path


Source = Template | LibraryItem | OvaFile


@dataclass(frozen=True)
class ServerRequest:
    """A GPU server as it should be. Memory in MiB; 0 takes 1.5 times the memory of its GPUs.

    `gpus` are PCI addresses on `host`; without them `count` GPUs (whose name contains `model`) are chosen. `dynamic`
    asks for any GPU of the chosen kind, placed by DRS (with `label`, only labelled ones). `gpu_memory_mib` overrides
    the GPUs' memory for MMIO and advice, `mmio_gb` the MMIO window itself.
    """

    name: str
    source: Source
    network: str
    host: str = ""
    gpus: tuple[str, ...] = ()
    count: int = 1
    model: str = ""
    dynamic: bool = False
    label: str = ""
    cpus: int = 8
    memory_mib: int = 0
    rdma_network: str = ""
    rdma_protocol: str = "rocev2"
    datastore: str = ""
    folder: str = ""
    hardware_version: int = 0
    mmio_gb: int | None = None
    gpu_memory_mib: int = 0
    cloud_init: CloudInit | None = None
    power_on: bool = True
    may_power_off: bool = False

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 80 or any(letter in self.name for letter in "/\\%"):
            raise InvalidRequest(f"{self.name!r} is no name for a virtual machine: 1 to 80 characters, no / \\ or %.")
        if self.gpus and not self.host:
            raise InvalidRequest("PCI addresses mean something on one host only: name the host as well.")
        if self.count < 1:
            raise InvalidRequest("A GPU server has at least one GPU.")
        if self.dynamic and self.gpus:
            raise InvalidRequest("Dynamic devices are chosen by DRS: name a model, not addresses.")


@dataclass(frozen=True)
class ServerPlan(Plan):
    """`vm` is the machine's id when it exists, `leftover` that of a half-made one to be removed first."""

    request: ServerRequest | None = None
    vm: str = ""
    leftover: str = ""
    host: str = ""
    cluster: str = ""
    standalone: bool = True
    pool: str = ""
    datastore: str = ""
    folder: str = ""
    network_id: str = ""
    source_id: str = ""
    gpus: tuple[Gpu, ...] = ()
    hardware: Hardware | None = None
    minimum_version: int = 0
    power_off_first: bool = False


def is_server(config: Any) -> bool:
    """Whether a VM (its vim.vm.ConfigInfo) is one of our GPU servers: its own option says so."""
    return any(option.key == ROLE_KEY and option.value == ROLE_SERVER for option in config.extraConfig or [])


def servers(inventory: Inventory) -> list[Vm]:
    """Our GPU servers in an inventory, by their notes, sorted by name."""
    found = [vm for vm in inventory.vms.values() if vm.annotation.startswith((NOTES, BUILDING)) and not vm.template]
    return sorted(found, key=lambda vm: vm.name)


def plan_server(session: Session, inventory: Inventory, request: ServerRequest) -> ServerPlan:
    """The plan that makes the server as requested. Reads only.

    Raises NoCapacity, PortgroupMissing, NotFound, NameTaken, DeviceInUse, InvalidRequest, HostBusy or ApiTooOld.
    """
    if request.dynamic:
        session.require(Feature.DYNAMIC_PASSTHROUGH, request.name)
    if request.rdma_network:
        session.require(Feature.PVRDMA_PROTOCOL, request.name)
    existing = [vm for vm in inventory.vms.values() if vm.name == request.name]
    if len(existing) > 1:
        raise NameTaken(f"{len(existing)} virtual machines have this name already.", object_name=request.name)
    if not existing:
        return _plan_new(session, inventory, request)
    vm = existing[0]
    with session.doing("Reading the virtual machine", vm.name):
        ref = session.object(vim.VirtualMachine, vm.id)
        facts = read(session, ref, "config", "recentTask")
    config = facts.get("config")
    if config is not None and (config.annotation or "").startswith(BUILDING) and not is_server(config):
        _refuse_if_being_built(session, facts.get("recentTask") or [], vm.name)
        return _plan_new(session, inventory, request, leftover=vm.id)
    if config is None or not is_server(config):
        raise NameTaken("A virtual machine of this name exists and is no GPU server of gpuferry.", object_name=vm.name)
    return _plan_existing(session, inventory, request, vm, config)


def _refuse_if_being_built(session: Session, tasks: list[Any], name: str) -> None:
    for task in tasks:
        if str(read(session, task, "info.state").get("info.state")) in ("running", "queued"):
            raise HostBusy(
                "Another run is building this machine right now.", object_name=name, remedy="Wait until its task ends."
            )


def _adapters(inventory: Inventory, request: ServerRequest) -> tuple[Adapter, ...]:
    adapters = [Adapter(find_port(inventory, request.network))]
    if request.rdma_network:
        adapters.append(Adapter(find_port(inventory, request.rdma_network), request.rdma_protocol))
    return tuple(adapters)


def _network_id(inventory: Inventory, name_or_id: str) -> str:
    """The managed object id of a network, for OVF mappings."""
    port = find_port(inventory, name_or_id)
    if port.network_id:
        return port.network_id
    return next(group.id for group in inventory.portgroups.values() if group.key == port.portgroup_key)


def _framebuffers(request: ServerRequest, gpus: list[Gpu]) -> list[int]:
    return [request.gpu_memory_mib or gpu.memory_mib for gpu in gpus]


def _memory(request: ServerRequest, gpus: list[Gpu]) -> int:
    return vm_spec.advised_memory_mib(_framebuffers(request, gpus), request.memory_mib)


def _devices(request: ServerRequest, gpus: tuple[Gpu, ...]) -> tuple[GpuDevice, ...]:
    """The VM's devices. A fixed one's system id is filled in once the VM is on its host."""
    if not request.dynamic:
        return tuple(FixedGpu(gpu.address, gpu.vendor_id, gpu.device_id, "", gpu.name) for gpu in gpus)
    return tuple(DynamicGpu(gpu.vendor_id, gpu.device_id, label=request.label) for gpu in gpus)


def hardware_of(
    request: ServerRequest, gpus: tuple[Gpu, ...], adapters: tuple[Adapter, ...], *, first: bool
) -> Hardware:
    """The hardware that a request means with these GPUs. cloud-init data is part of it until the first boot only."""
    options = {ROLE_KEY: ROLE_SERVER, **mmio.options(_framebuffers(request, list(gpus)), request.mmio_gb)}
    if first and request.cloud_init is not None:
        options |= request.cloud_init.options()
    counted = {gpu.name: sum(other.name == gpu.name for other in gpus) for gpu in gpus}
    cards = ", ".join(f"{count} x {name}" for name, count in counted.items())
    return Hardware(
        cpus=request.cpus,
        memory_mib=_memory(request, list(gpus)),
        gpus=_devices(request, gpus),
        adapters=adapters,
        options=options,
        annotation=f"{NOTES}: {cards}",
    )


def _plan_new(session: Session, inventory: Inventory, request: ServerRequest, leftover: str = "") -> ServerPlan:
    adapters = _adapters(inventory, request)
    rdma = next((adapter.port.switch_uuid for adapter in adapters if adapter.pvrdma), "")
    source_id, disk_mib = _source(session, inventory, request)
    wish = Wish(
        count=request.count,
        host=request.host,
        gpus=request.gpus,
        model=request.model,
        datastore=request.datastore,
        disk_mib=disk_mib,
        ports=tuple(adapter.port for adapter in adapters),
        rdma_switch=rdma,
        dynamic=request.dynamic,
    )
    placed = place(inventory, wish, lambda gpus: _memory(request, gpus))
    hardware = hardware_of(request, placed.gpus, adapters, first=True)
    steps = ["remove the half-made machine of an earlier run"] if leftover else []
    steps += [_source_words(request.source), "reconfigure it once, with everything below"]
    if not placed.cluster.standalone:
        steps.append("DRS leaves it alone" + ("" if request.dynamic else ", HA does not restart it"))
    steps += ["power on", "wait for its address"] if request.power_on else []
    return ServerPlan(
        object_name=request.name,
        changes=_as_changes(request, placed, hardware),
        steps=tuple(steps),
        warnings=_warnings(request, placed.gpus, hardware),
        request=request,
        leftover=leftover,
        host=placed.host.id,
        cluster=placed.cluster.id,
        standalone=placed.cluster.standalone,
        pool=placed.cluster.pool,
        datastore=placed.datastore.id,
        folder=_folder(inventory, request, placed),
        network_id=_network_id(inventory, request.network),
        source_id=source_id,
        gpus=placed.gpus,
        hardware=hardware,
        minimum_version=max(request.hardware_version, hardware.minimum_version),
    )


def _as_changes(request: ServerRequest, placed: Placement, hardware: Hardware) -> tuple[Change, ...]:
    name = request.name
    changes = [
        Change(name, "host", "", placed.host.name),
        Change(name, "datastore", "", placed.datastore.name),
        Change(name, "CPUs", "", str(hardware.cpus)),
        Change(name, "memory, all reserved, MiB", "", str(hardware.memory_mib)),
    ]
    for gpu in placed.gpus:
        kind = f"any {gpu.name}" if request.dynamic else f"{gpu.name} at {gpu.address}"
        changes.append(Change(name, "GPU", "", kind))
    for adapter in hardware.adapters:
        kind = f"PVRDMA ({adapter.protocol})" if adapter.pvrdma else "VMXNET3"
        changes.append(Change(name, "adapter", "", f"{kind} on {adapter.port.name}"))
    for key, value in sorted(hardware.options.items()):
        changes.append(Change(name, f"option {key}", "", value if len(value) <= 60 else f"({len(value)} bytes)"))
    return tuple(changes)


def _warnings(request: ServerRequest, gpus: tuple[Gpu, ...], hardware: Hardware) -> tuple[str, ...]:
    warnings = []
    advice = vm_spec.memory_warning(hardware.memory_mib, _framebuffers(request, list(gpus)))
    if advice:
        warnings.append(advice)
    for gpu in gpus:
        if gpu.memory_source == "unknown card" and not request.gpu_memory_mib:
            warnings.append(
                f"{gpu.name} at {gpu.address} is not in the catalogue; {gpu.memory_mib} MiB are reckoned with. "
                "Give its memory to be exact."
            )
    return tuple(warnings)


def _source_words(source: Source) -> str:
    if isinstance(source, Template):
        return f"clone {source.name}, powered off"
    if isinstance(source, LibraryItem):
        return f"deploy {source.item} of the library {source.library}, powered off"
    return f"import {source.path.name}, powered off"


def _source(session: Session, inventory: Inventory, request: ServerRequest) -> tuple[str, int]:
    """(id of the source, MiB of disk where known), after checking that a GPU server can be made from it."""
    source = request.source
    if isinstance(source, LibraryItem):
        return content_library.find_item(session, source.library, source.item), 0
    if isinstance(source, OvaFile):
        ova = read_ova(source.path)
        _require_efi(ova.firmware, source.path.name)
        return "", ova.disk_mib
    try:
        template = inventory.template(source.name)
    except NotFound:
        template = inventory.vm(source.name)
    if template.running:
        raise InvalidRequest(
            "The machine to clone from runs; power it off, or use a template.", object_name=template.name
        )
    _require_efi(template.firmware, template.name)
    ref = session.object(vim.VirtualMachine, template.id)
    with session.doing("Reading the template", template.name):
        devices = read(session, ref, "config.hardware.device").get("config.hardware.device", [])
    if any(vm_spec.gpu_of(device) or vm_spec.is_pvrdma(device) for device in devices):
        raise InvalidRequest(
            "The template holds passthrough devices or PVRDMA adapters, which a clone would copy.",
            object_name=template.name,
            remedy="Remove them from the template.",
        )
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    return template.id, sum(int(disk.capacityInKB or 0) for disk in disks) // 1024


def _require_efi(firmware: str, name: str) -> None:
    if firmware != "efi":
        raise InvalidRequest(
            f"Its firmware is {firmware or 'unknown'}; large GPUs need EFI, and an installed guest cannot switch.",
            object_name=name,
            remedy="Use a template whose guest was installed with EFI firmware.",
        )


def _folder(inventory: Inventory, request: ServerRequest, placed: Placement) -> str:
    root = inventory.datacenters[placed.cluster.datacenter].vm_folder
    if not request.folder:
        return root
    below = [folder for folder in inventory.folders.values() if request.folder in (folder.name, folder.id)]
    inside = [folder for folder in below if _under(inventory, folder.id, root)]
    if not inside:
        raise NotFound("There is no such VM folder in the host's datacenter.", object_name=request.folder)
    return inside[0].id


def _under(inventory: Inventory, folder: str, root: str) -> bool:
    while folder and folder != root:
        folder = inventory.folders[folder].parent if folder in inventory.folders else ""
    return folder == root


def _plan_existing(session: Session, inventory: Inventory, request: ServerRequest, vm: Vm, config: Any) -> ServerPlan:
    host = inventory.hosts[vm.host]
    if request.host and inventory.host(request.host).id != host.id:
        raise InvalidRequest(
            f"The server is on {host.name}; it cannot move to {request.host} with its devices.",
            object_name=vm.name,
            remedy="Remove it and create it again there.",
        )
    adapters = _adapters(inventory, request)
    gpus = _gpus_of_existing(inventory, request, vm)
    wanted = hardware_of(request, gpus, adapters, first=False)
    wanted = with_system_ids(session, host.id, inventory.clusters[host.cluster].id, wanted)
    spec, changes = vm_spec.difference(vm.name, wanted, config)
    minimum = max(request.hardware_version, wanted.minimum_version)
    upgrade = vm.hardware_version < minimum
    power_off_first = vm.running and (spec is not None or upgrade)
    if power_off_first and not request.may_power_off:
        raise InvalidRequest(
            f"The server runs, and this changes its hardware: {'; '.join(map(str, changes)) or 'hardware version'}.",
            object_name=vm.name,
            remedy="Drain its leases and allow it to be powered off for the change.",
        )
    cluster = inventory.clusters[host.cluster]
    steps = ["power off"] if power_off_first else []
    steps += [f"raise the hardware version to {minimum}"] if upgrade else []
    steps += ["reconfigure it once, with everything below"] if spec is not None else []
    steps += ["power on"] if request.power_on and (power_off_first or not vm.running) else []
    return ServerPlan(
        object_name=vm.name,
        changes=changes,
        steps=tuple(steps),
        warnings=_warnings(request, gpus, wanted),
        request=request,
        vm=vm.id,
        host=host.id,
        cluster=cluster.id,
        standalone=cluster.standalone,
        gpus=gpus,
        hardware=wanted,
        minimum_version=minimum,
        power_off_first=power_off_first,
    )


def _gpus_of_existing(inventory: Inventory, request: ServerRequest, vm: Vm) -> tuple[Gpu, ...]:
    """The GPUs that an existing server should have: those named, else those it has, filled up with free ones of its
    host.
    """
    host = inventory.hosts[vm.host]
    own = [gpu for gpu in host.gpus if any(user.vm == vm.id for user in gpu.users)]
    if request.gpus:
        named = tuple(inventory.gpu(host.id, address) for address in request.gpus)
        for gpu in named:
            if gpu not in own and not gpu.free:
                users = ", ".join(user.name for user in gpu.users)
                raise DeviceInUse(
                    f"{gpu.name} at {gpu.address} is {gpu.state.value}{f' by {users}' if users else ''}.",
                    object_name=host.name,
                )
        return named
    fitting = [gpu for gpu in own if request.model.lower() in gpu.name.lower()]
    free = [gpu for gpu in host.gpus if gpu.free and request.model.lower() in gpu.name.lower()]
    # A dynamic device has no address while the machine is off: any card of the host of that model stands for it.
    if request.dynamic and not fitting:
        fitting = [gpu for gpu in host.gpus if request.model.lower() in gpu.name.lower() and gpu.active]
    chosen = (fitting + [gpu for gpu in free if gpu not in fitting])[: request.count]
    if len(chosen) < request.count:
        raise DeviceInUse(
            f"The server's host has {len(chosen)} of the {request.count} GPUs wanted.", object_name=host.name
        )
    return tuple(chosen)


def with_system_ids(session: Session, host: str, compute_resource: str, hardware: Hardware) -> Hardware:
    """The hardware with the system id of each fixed device, as the host offers it now. Raises DeviceInUse when it
    does not.

    A device is offered only when passthrough is active for it (EnvironmentBrowser.QueryConfigTarget).
    """
    if not any(isinstance(gpu, FixedGpu) for gpu in hardware.gpus):
        return hardware
    compute = session.object(vim.ComputeResource, compute_resource)
    ref = session.object(vim.HostSystem, host)
    with session.doing("Asking which devices the host offers", host):
        browser = read(session, compute, "environmentBrowser").get("environmentBrowser")
        target = browser.QueryConfigTarget(ref) if browser is not None else None
    offered = {str(info.pciDevice.id): str(info.systemId) for info in getattr(target, "pciPassthrough", None) or []}
    gpus: list[GpuDevice] = []
    for gpu in hardware.gpus:
        if isinstance(gpu, FixedGpu):
            if gpu.address not in offered:
                raise DeviceInUse(
                    f"The host does not offer {gpu.name or 'the device'} at {gpu.address} for passthrough now.",
                    object_name=host,
                    remedy="See `gpuferry vcenter gpus` for the card's state.",
                )
            gpu = FixedGpu(gpu.address, gpu.vendor_id, gpu.device_id, offered[gpu.address], gpu.name)  # noqa: PLW2901
        gpus.append(gpu)
    return Hardware(
        hardware.cpus, hardware.memory_mib, tuple(gpus), hardware.adapters, hardware.options, hardware.annotation
    )
