"""What a vCenter holds, as plain data: hosts with their GPUs and RDMA NICs, clusters, switches, portgroups,
datastores, VMs.

Everything here is immutable and free of pyVmomi; `vcenter/reading.py` makes it from vCenter's properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol, TypeVar

from vcenter.errors import Ambiguous, NotFound
from vcenter.pci import PciFunction


class GpuState(Enum):
    """Where a GPU stands on its way to a GPU server."""

    HOST_GONE = "host unavailable"
    NOT_CAPABLE = "not capable"
    SHARED_DIRECT = "vGPU"
    OFF = "off"
    REBOOT_TO_TURN_ON = "on after reboot"
    REBOOT_TO_TURN_OFF = "off after reboot"
    READY = "ready"
    HELD = "held"
    IN_USE = "in use"


@dataclass(frozen=True)
class GpuUser:
    """A VM that has the device: `running` when it is powered on (or suspended, which keeps the device as well)."""

    vm: str
    name: str
    running: bool


@dataclass(frozen=True)
class Gpu:
    """One GPU of one host. `memory_mib` is its framebuffer, `bar_mib` the largest BAR it may ask for.

    `memory_source` is `host` (its driver reported it), `catalogue` or `unknown card` (the safe rule). `group` are the
    addresses that change passthrough together; `dependents` those of them that only the host can release (bridges).
    """

    host: str
    host_name: str
    address: str
    name: str
    vendor_id: int
    device_id: int
    sub_vendor_id: int
    sub_device_id: int
    memory_mib: int
    bar_mib: int
    memory_source: str
    functions: tuple[PciFunction, ...]
    group: tuple[str, ...]
    dependents: tuple[str, ...]
    capable: bool
    enabled: bool
    active: bool
    hardware_label: str
    graphics_type: str
    users: tuple[GpuUser, ...]
    state: GpuState
    next_step: str

    @property
    def id(self) -> str:
        return f"{self.host}/{self.address}"

    @property
    def free(self) -> bool:
        return self.state is GpuState.READY


@dataclass(frozen=True)
class RdmaNic:
    """An RDMA device of a host. `uplink` is the physical NIC it is paired with, `switch` the UUID of that NIC's DVS."""

    name: str
    driver: str
    uplink: str
    link_up: bool
    speed_mbps: int
    switch: str


@dataclass(frozen=True)
class VmkernelAdapter:
    device: str
    address: str
    portgroup: str
    switch: str
    portgroup_key: str


@dataclass(frozen=True)
class HostSwitch:
    """A distributed switch as one host has it, with the physical NICs that are its uplinks there."""

    uuid: str
    name: str
    uplinks: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    id: str
    name: str
    cluster: str
    product: str
    api_version: str
    connection: str
    power: str
    in_maintenance: bool
    reboot_required: bool
    boot_time: datetime | None
    cpus: int
    memory_mib: int
    gpus: tuple[Gpu, ...]
    rdma_nics: tuple[RdmaNic, ...]
    vmkernel_adapters: tuple[VmkernelAdapter, ...]
    switches: tuple[HostSwitch, ...]
    datastores: tuple[str, ...]
    networks: tuple[str, ...]

    @property
    def connected(self) -> bool:
        return self.connection == "connected"

    @property
    def usable(self) -> bool:
        """Whether new VMs may start here."""
        return self.connected and not self.in_maintenance


@dataclass(frozen=True)
class Vm:
    id: str
    name: str
    host: str
    power: str
    template: bool
    hardware_version: int
    firmware: str
    cpus: int
    memory_mib: int
    reserved_mib: int
    uuid: str
    instance_uuid: str
    address: str
    guest_host_name: str
    tools: str
    connection: str
    pool: str
    folder: str
    annotation: str

    @property
    def running(self) -> bool:
        return self.power != "poweredOff"


@dataclass(frozen=True)
class Cluster:
    """A cluster, or the single-host compute resource of a host outside any (`standalone`)."""

    id: str
    name: str
    standalone: bool
    drs: bool
    ha: bool
    pool: str
    datacenter: str


@dataclass(frozen=True)
class Switch:
    id: str
    name: str
    uuid: str
    datacenter: str


@dataclass(frozen=True)
class Portgroup:
    """A distributed portgroup. `switch` is the id of its DVS; `uplink` tells the DVS's own uplink portgroups."""

    id: str
    name: str
    key: str
    switch: str
    uplink: bool


@dataclass(frozen=True)
class Network:
    """A standard switch's network, by name."""

    id: str
    name: str


@dataclass(frozen=True)
class Datastore:
    id: str
    name: str
    free_mib: int
    capacity_mib: int
    accessible: bool


@dataclass(frozen=True)
class Datacenter:
    id: str
    name: str
    vm_folder: str


@dataclass(frozen=True)
class Folder:
    id: str
    name: str
    parent: str


class _Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


_Thing = TypeVar("_Thing", bound=_Named)


def pick(things: Mapping[str, _Thing], name_or_id: str, noun: str) -> _Thing:
    """The one thing with this id or name. Raises NotFound or Ambiguous."""
    if name_or_id in things:
        return things[name_or_id]
    found = [thing for thing in things.values() if thing.name == name_or_id]
    if not found:
        raise NotFound(f"There is no {noun} {name_or_id!r} in this vCenter.", object_name=name_or_id)
    if len(found) > 1:
        ids = ", ".join(thing.id for thing in found)
        raise Ambiguous(
            f"{len(found)} {noun}s are called {name_or_id!r}: {ids}.",
            object_name=name_or_id,
            remedy="Name it by its id.",
        )
    return found[0]


@dataclass(frozen=True)
class Inventory:
    """One consistent view of a vCenter. Every mapping is by managed object id (`host-12`).

    `unreadable` lists what the account may not read: (object id, property, fault).
    """

    vcenter: str
    api_version: str
    hosts: Mapping[str, Host]
    vms: Mapping[str, Vm]
    clusters: Mapping[str, Cluster]
    switches: Mapping[str, Switch]
    portgroups: Mapping[str, Portgroup]
    networks: Mapping[str, Network]
    datastores: Mapping[str, Datastore]
    datacenters: Mapping[str, Datacenter]
    folders: Mapping[str, Folder]
    unreadable: tuple[tuple[str, str, str], ...] = field(default=())

    def gpus(self) -> list[Gpu]:
        """All GPUs, by host name and address."""
        return sorted(
            (gpu for host in self.hosts.values() for gpu in host.gpus), key=lambda gpu: (gpu.host_name, gpu.address)
        )

    def host(self, name_or_id: str) -> Host:
        return pick(self.hosts, name_or_id, "host")

    def vm(self, name_or_id: str) -> Vm:
        return pick({k: v for k, v in self.vms.items() if not v.template}, name_or_id, "virtual machine")

    def template(self, name_or_id: str) -> Vm:
        return pick({k: v for k, v in self.vms.items() if v.template}, name_or_id, "template")

    def gpu(self, host: str, address: str) -> Gpu:
        """The GPU of a host at a PCI address (any function of its card will do). Raises NotFound."""
        owner = self.host(host)
        for gpu in owner.gpus:
            if address in (gpu.address, *gpu.group, *(function.address for function in gpu.functions)):
                return gpu
        raise NotFound(f"Host {owner.name} has no GPU at {address}.", object_name=owner.name)

    def vms_on(self, host: str) -> list[Vm]:
        return [vm for vm in self.vms.values() if vm.host == host]

    def reserved_mib(self, host: str) -> int:
        """Memory that running VMs have reserved on a host."""
        return sum(vm.reserved_mib for vm in self.vms_on(host) if vm.running)


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """The values in order, each once, empty ones left out."""
    return tuple(dict.fromkeys(value for value in values if value))
