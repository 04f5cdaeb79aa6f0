"""From vCenter's properties to the inventory: which properties are read, and what they mean.

One container view and one traversal bring every object with only the leaf properties used here. A second retrieval
brings the device lists of those VMs alone that can hold a passed-through device (such a VM must reserve memory, and
devices are by far the largest property of a VM). The number of SOAP calls does not depend on the size of the vCenter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyVmomi import vim

from vcenter import gpu_catalogue, pci
from vcenter.collector import Row, container_view, objects_filter, retrieve, view_filter
from vcenter.inventory import (
    Cluster,
    Datacenter,
    Datastore,
    Folder,
    Gpu,
    GpuState,
    GpuUser,
    Host,
    HostSwitch,
    Inventory,
    Network,
    Portgroup,
    RdmaNic,
    Switch,
    Vm,
    VmkernelAdapter,
    unique,
)
from vcenter.pci import PciFunction, slot, unsigned
from vcenter.session import Session
from vcenter.versions import Feature

_MIB = 1024 * 1024


def paths(session: Session) -> dict[Any, list[str]]:
    """The properties that are read, by type. Those that an older vCenter does not know are left out (it would refuse
    all).
    """
    host = [
        "name",
        "parent",
        "runtime.connectionState",
        "runtime.powerState",
        "runtime.inMaintenanceMode",
        "runtime.bootTime",
        "summary.rebootRequired",
        "summary.config.product",
        "summary.hardware.memorySize",
        "summary.hardware.numCpuCores",
        "hardware.pciDevice",
        "config.pciPassthruInfo",
        "config.graphicsInfo",
        "config.network.proxySwitch",
        "config.network.vnic",
        "datastore",
        "network",
    ]
    if session.has(Feature.RDMA_DEVICES):
        host += ["config.network.rdmaDevice", "config.assignableHardwareBinding"]
    return {
        vim.HostSystem: host,
        vim.VirtualMachine: [
            "name",
            "parent",
            "resourcePool",
            "runtime.host",
            "runtime.powerState",
            "runtime.connectionState",
            "config.template",
            "config.version",
            "config.firmware",
            "config.uuid",
            "config.instanceUuid",
            "config.annotation",
            "config.hardware.numCPU",
            "config.hardware.memoryMB",
            "config.memoryAllocation.reservation",
            "config.memoryReservationLockedToMax",
            "guest.ipAddress",
            "guest.hostName",
            "guest.toolsRunningStatus",
        ],
        # A cluster is a ComputeResource too; its own entry adds what only clusters have.
        vim.ComputeResource: ["name", "parent", "resourcePool"],
        vim.ClusterComputeResource: [
            "name",
            "parent",
            "resourcePool",
            "configuration.drsConfig.enabled",
            "configuration.dasConfig.enabled",
        ],
        vim.DistributedVirtualSwitch: ["name", "uuid", "parent"],
        vim.dvs.DistributedVirtualPortgroup: ["name", "key", "config.distributedVirtualSwitch", "config.uplink"],
        vim.Network: ["name"],
        vim.Datastore: ["name", "summary.freeSpace", "summary.capacity", "summary.accessible"],
        vim.Datacenter: ["name", "vmFolder", "parent"],
        vim.Folder: ["name", "parent"],
    }


DEVICES = {vim.VirtualMachine: ["config.hardware.device"]}


def may_hold_devices(row: Row) -> bool:
    """Whether a VM may hold a passed-through device: such a VM has memory reserved."""
    return (
        bool(row.get("config.memoryReservationLockedToMax"))
        or int(row.get("config.memoryAllocation.reservation") or 0) > 0
    )


def load(session: Session, page: int | None = None) -> Inventory:
    """Reads the whole inventory. `page` limits the objects of one answer, to bound memory in very large vCenters."""
    wanted = paths(session)
    with session.doing("Reading the inventory"):
        with container_view(session, list(wanted)) as view:
            rows = {row.moid: row for row in retrieve(session, [view_filter(view, wanted)], page)}
        holders = [row.ref for row in rows.values() if row.kind == "VirtualMachine" and may_hold_devices(row)]
        if holders:
            for row in retrieve(session, [objects_filter(holders, DEVICES)], page):
                rows[row.moid].properties.update(row.properties)
    return inventory_of(session.endpoint.server, session.api_version, rows.values())


def inventory_of(vcenter: str, api_version: str, rows: Iterable[Row]) -> Inventory:
    """The inventory from rows, whatever brought them. Pure."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    vms = {row.moid: vm_of(row) for row in by_kind.get("VirtualMachine", ())}
    datacenters = {
        row.moid: Datacenter(row.moid, row.get("name", ""), _moid(row.get("vmFolder")))
        for row in by_kind.get("Datacenter", ())
    }
    folders = {
        row.moid: Folder(row.moid, row.get("name", ""), _moid(row.get("parent"))) for row in by_kind.get("Folder", ())
    }

    def datacenter_over(moid: str) -> str:
        while moid and moid not in datacenters:
            moid = folders[moid].parent if moid in folders else ""
        return moid

    clusters = {}
    for kind in ("ComputeResource", "ClusterComputeResource"):
        for row in by_kind.get(kind, ()):
            clusters[row.moid] = Cluster(
                id=row.moid,
                name=row.get("name", ""),
                standalone=kind == "ComputeResource",
                drs=bool(row.get("configuration.drsConfig.enabled", False)),
                ha=bool(row.get("configuration.dasConfig.enabled", False)),
                pool=_moid(row.get("resourcePool")),
                datacenter=datacenter_over(_moid(row.get("parent"))),
            )
    switches = {
        row.moid: Switch(row.moid, row.get("name", ""), row.get("uuid", ""), datacenter_over(_moid(row.get("parent"))))
        for kind in ("DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch")
        for row in by_kind.get(kind, ())
    }
    portgroups = {
        row.moid: Portgroup(
            id=row.moid,
            name=row.get("name", ""),
            key=row.get("key", ""),
            switch=_moid(row.get("config.distributedVirtualSwitch")),
            uplink=bool(row.get("config.uplink", False)),
        )
        for row in by_kind.get("DistributedVirtualPortgroup", ())
    }
    users = _fixed_users(by_kind.get("VirtualMachine", ()))
    hosts = {row.moid: host_of(row, vms, users) for row in by_kind.get("HostSystem", ())}
    return Inventory(
        vcenter=vcenter,
        api_version=api_version,
        hosts=hosts,
        vms=vms,
        clusters=clusters,
        switches=switches,
        portgroups=portgroups,
        networks={row.moid: Network(row.moid, row.get("name", "")) for row in by_kind.get("Network", ())},
        datastores={row.moid: datastore_of(row) for row in by_kind.get("Datastore", ())},
        datacenters=datacenters,
        folders=folders,
        unreadable=tuple(
            (row.moid, path, fault)
            for group in by_kind.values()
            for row in group
            for path, fault in row.unreadable.items()
        ),
    )


def _moid(ref: Any) -> str:
    return str(ref._moId) if ref is not None else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _utc(moment: datetime | None) -> datetime | None:
    """A moment in Python's own time zone class; pyVmomi's cannot leave the process."""
    return None if moment is None else moment.astimezone(UTC)


def datastore_of(row: Row) -> Datastore:
    return Datastore(
        id=row.moid,
        name=row.get("name", ""),
        free_mib=int(row.get("summary.freeSpace", 0)) // _MIB,
        capacity_mib=int(row.get("summary.capacity", 0)) // _MIB,
        accessible=bool(row.get("summary.accessible", False)),
    )


def hardware_version(text: str) -> int:
    """`vmx-19` -> 19; 0 when it is not such a text."""
    number = text.removeprefix("vmx-")
    return int(number) if number.isdigit() else 0


def vm_of(row: Row) -> Vm:
    memory = int(row.get("config.hardware.memoryMB", 0))
    locked = bool(row.get("config.memoryReservationLockedToMax", False))
    return Vm(
        id=row.moid,
        name=row.get("name", ""),
        host=_moid(row.get("runtime.host")),
        power=_text(row.get("runtime.powerState")),
        template=bool(row.get("config.template", False)),
        hardware_version=hardware_version(_text(row.get("config.version"))),
        firmware=_text(row.get("config.firmware")),
        cpus=int(row.get("config.hardware.numCPU", 0)),
        memory_mib=memory,
        reserved_mib=memory if locked else int(row.get("config.memoryAllocation.reservation", 0)),
        uuid=_text(row.get("config.uuid")),
        instance_uuid=_text(row.get("config.instanceUuid")),
        address=_text(row.get("guest.ipAddress")),
        guest_host_name=_text(row.get("guest.hostName")),
        tools=_text(row.get("guest.toolsRunningStatus")),
        connection=_text(row.get("runtime.connectionState")),
        pool=_moid(row.get("resourcePool")),
        folder=_moid(row.get("parent")),
        annotation=_text(row.get("config.annotation")),
    )


def _fixed_users(vms: Iterable[Row]) -> dict[tuple[str, str], list[GpuUser]]:
    """Who holds which device: (host id, PCI address) -> users. Dynamic devices appear once the host has assigned
    them.
    """
    users: dict[tuple[str, str], list[GpuUser]] = {}
    for row in vms:
        host = _moid(row.get("runtime.host"))
        for device in row.get("config.hardware.device", ()):
            if not isinstance(device, vim.vm.device.VirtualPCIPassthrough):
                continue
            backing = device.backing
            if isinstance(backing, vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo):
                address = pci.address_in(_text(backing.assignedId))
            else:
                address = _text(getattr(backing, "id", ""))
            if address:
                running = _text(row.get("runtime.powerState")) != "poweredOff"
                users.setdefault((host, address), []).append(GpuUser(row.moid, row.get("name", ""), running))
    return users


def function_of(device: Any) -> PciFunction:
    """A PCI function from a `vim.host.PciDevice`."""
    return PciFunction(
        address=str(device.id),
        class_id=unsigned(device.classId),
        vendor_id=unsigned(device.vendorId),
        device_id=unsigned(device.deviceId),
        sub_vendor_id=unsigned(device.subVendorId),
        sub_device_id=unsigned(device.subDeviceId),
        vendor_name=_text(device.vendorName),
        device_name=_text(device.deviceName),
        bridge=_text(device.parentBridge),
    )


def passthrough_group(address: str, functions: Sequence[PciFunction], infos: Mapping[str, Any]) -> tuple[str, ...]:
    """All addresses that must change passthrough together with `address`, itself first.

    They are the functions of the same card, and whatever the host says depends on them or they depend on, transitively.
    """
    linked: dict[str, set[str]] = {}

    def link(one: str, other: str) -> None:
        if one and other and one != other:
            linked.setdefault(one, set()).add(other)
            linked.setdefault(other, set()).add(one)

    for info in infos.values():
        link(str(info.id), _text(info.dependentDevice))
    for function in functions:
        if slot(function.address) == slot(address):
            link(address, function.address)
    seen, todo = [address], [address]
    while todo:
        for other in sorted(linked.get(todo.pop(), ())):
            if other not in seen:
                seen.append(other)
                todo.append(other)
    return (address, *sorted(seen[1:]))


def host_of(row: Row, vms: Mapping[str, Vm], users: Mapping[tuple[str, str], list[GpuUser]]) -> Host:
    product = row.get("summary.config.product")
    switches = tuple(_switch_of(proxy) for proxy in row.get("config.network.proxySwitch", ()))
    host = Host(
        id=row.moid,
        name=row.get("name", ""),
        cluster=_moid(row.get("parent")),
        product=_text(getattr(product, "fullName", "")),
        api_version=_text(getattr(product, "apiVersion", "")),
        connection=_text(row.get("runtime.connectionState")),
        power=_text(row.get("runtime.powerState")),
        in_maintenance=bool(row.get("runtime.inMaintenanceMode", False)),
        reboot_required=bool(row.get("summary.rebootRequired", False)),
        boot_time=_utc(row.get("runtime.bootTime")),
        cpus=int(row.get("summary.hardware.numCpuCores", 0)),
        memory_mib=int(row.get("summary.hardware.memorySize", 0)) // _MIB,
        gpus=(),
        rdma_nics=tuple(_rdma_nic_of(nic, switches) for nic in row.get("config.network.rdmaDevice", ())),
        vmkernel_adapters=tuple(_vmkernel_of(nic) for nic in row.get("config.network.vnic", ())),
        switches=switches,
        datastores=tuple(_moid(ref) for ref in row.get("datastore", ())),
        networks=tuple(_moid(ref) for ref in row.get("network", ())),
    )
    return _with_gpus(host, row, vms, users)


def _switch_of(proxy: Any) -> HostSwitch:
    backing = getattr(getattr(proxy, "spec", None), "backing", None)
    uplinks = [_text(spec.pnicDevice) for spec in getattr(backing, "pnicSpec", None) or []]
    # proxySwitch.pnic holds keys such as "key-vim.host.PhysicalNic-vmnic4"
    uplinks += [_text(key).rpartition("-")[2] for key in proxy.pnic or []]
    return HostSwitch(_text(proxy.dvsUuid), _text(proxy.dvsName), unique(uplinks))


def _rdma_nic_of(nic: Any, switches: Sequence[HostSwitch]) -> RdmaNic:
    uplink = _text(getattr(nic.backing, "pairedUplink", None)).rpartition("-")[2]
    link = nic.connectionInfo
    return RdmaNic(
        name=_text(nic.device),
        driver=_text(nic.driver),
        uplink=uplink,
        link_up=_text(getattr(link, "state", "")).startswith("active"),
        speed_mbps=int(getattr(link, "speedInMbps", 0) or 0),
        switch=next((switch.uuid for switch in switches if uplink and uplink in switch.uplinks), ""),
    )


def _vmkernel_of(nic: Any) -> VmkernelAdapter:
    port = getattr(nic.spec, "distributedVirtualPort", None)
    return VmkernelAdapter(
        device=_text(nic.device),
        address=_text(getattr(nic.spec.ip, "ipAddress", "")) if nic.spec and nic.spec.ip else "",
        portgroup=_text(nic.portgroup),
        switch=_text(getattr(port, "switchUuid", "")),
        portgroup_key=_text(getattr(port, "portgroupKey", "")),
    )


@dataclass(frozen=True)
class _CardFacts:
    """What one host says about its devices, by PCI address."""

    functions: Sequence[PciFunction]
    infos: Mapping[str, Any]
    graphics: Mapping[str, Any]
    users: Mapping[str, Sequence[GpuUser]]


def _with_gpus(host: Host, row: Row, vms: Mapping[str, Vm], users: Mapping[tuple[str, str], list[GpuUser]]) -> Host:
    # Devices are many and hardly ever change: what they mean is worked out once.
    if "hardware.pciDevice" not in row.derived:
        row.derived["hardware.pciDevice"] = [function_of(device) for device in row.get("hardware.pciDevice", ())]
    functions: list[PciFunction] = row.derived["hardware.pciDevice"]
    bound = _bound(row, vms)
    facts = _CardFacts(
        functions=functions,
        infos={str(info.id): info for info in row.get("config.pciPassthruInfo", ())},
        graphics={_text(info.pciId): info for info in row.get("config.graphicsInfo", ())},
        users={f.address: (*users.get((host.id, f.address), ()), *bound.get(f.address, ())) for f in functions},
    )
    gpus = [_gpu_of(host, function, facts) for function in functions if function.is_gpu]
    return replace(host, gpus=tuple(sorted(gpus, key=lambda gpu: gpu.address)))


def _bound(row: Row, vms: Mapping[str, Vm]) -> dict[str, list[GpuUser]]:
    """Who holds assigned hardware, by PCI address, from the host's own bindings (7.0 and later)."""
    bound: dict[str, list[GpuUser]] = {}
    for binding in row.get("config.assignableHardwareBinding", ()):
        address = pci.address_in(_text(getattr(binding, "pciId", None)) or _text(binding.instanceId))
        moid = _moid(binding.vm)
        if address and moid:
            vm = vms.get(moid)
            bound.setdefault(address, []).append(GpuUser(moid, vm.name if vm else moid, vm.running if vm else True))
    return bound


def _gpu_of(host: Host, function: PciFunction, facts: _CardFacts) -> Gpu:
    info = facts.infos.get(function.address)
    shown = facts.graphics.get(function.address)
    model = gpu_catalogue.find(function.vendor_id, function.device_id, function.sub_device_id)
    reported = int(getattr(shown, "memorySizeInKB", 0) or 0) // 1024
    memory = gpu_catalogue.memory_mib(function.vendor_id, function.device_id, function.sub_device_id, reported)
    group = passthrough_group(function.address, facts.functions, facts.infos)
    held = {user.vm: user for user in facts.users.get(function.address, ())}
    gpu = Gpu(
        host=host.id,
        host_name=host.name,
        address=function.address,
        name=model.name if model else function.device_name or f"NVIDIA {function.identity}",
        vendor_id=function.vendor_id,
        device_id=function.device_id,
        sub_vendor_id=function.sub_vendor_id,
        sub_device_id=function.sub_device_id,
        memory_mib=memory,
        bar_mib=model.bar_mib if model else 1 << (memory - 1).bit_length(),
        memory_source="host" if reported else "catalogue" if model else "unknown card",
        functions=tuple(sorted(f for f in facts.functions if slot(f.address) == slot(function.address))),
        group=group,
        dependents=tuple(
            address for address in group if not getattr(facts.infos.get(address), "passthruCapable", False)
        ),
        capable=bool(getattr(info, "passthruCapable", False)),
        enabled=bool(getattr(info, "passthruEnabled", False)),
        active=bool(getattr(info, "passthruActive", False)),
        hardware_label=_text(getattr(info, "hardwareLabel", None)),
        graphics_type=_text(getattr(shown, "graphicsType", None)),
        users=tuple(sorted(held.values(), key=lambda user: user.name)),
        state=GpuState.OFF,
        next_step="",
    )
    state, step = state_of(gpu, host)
    return replace(gpu, state=state, next_step=step)


def state_of(gpu: Gpu, host: Host) -> tuple[GpuState, str]:
    """Where a GPU stands, and what the administrator does next to bring it into the pool."""
    turn_on = f"gpuferry vcenter passthrough on {host.name} {gpu.address}"
    names = ", ".join(user.name for user in gpu.users)
    if not host.connected:
        return GpuState.HOST_GONE, f"reconnect host {host.name} ({host.connection})"
    if any(user.running for user in gpu.users):
        return GpuState.IN_USE, f"used by {names}"
    if gpu.enabled and gpu.active:
        if gpu.users:
            return GpuState.HELD, f"held by {names} (powered off): power it on, or remove the device"
        if host.in_maintenance:
            return GpuState.READY, f"take host {host.name} out of maintenance mode"
        return GpuState.READY, "gpuferry vcenter server create"
    if gpu.enabled:
        return GpuState.REBOOT_TO_TURN_ON, f"reboot host {host.name}: {turn_on}"
    if gpu.active:
        return GpuState.REBOOT_TO_TURN_OFF, f"reboot host {host.name} to give the card back to it"
    if not gpu.capable:
        return GpuState.NOT_CAPABLE, "turn on VT-d/AMD-Vi (and Above 4G Decoding) in the host's firmware"
    if gpu.graphics_type == "sharedDirect":
        return GpuState.SHARED_DIRECT, "set the card's graphics type to Shared (Host > Configure > Graphics)"
    return GpuState.OFF, turn_on
