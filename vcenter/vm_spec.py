"""The hardware of a GPU server as a ConfigSpec: pure functions from what is wanted and what is there to the one change.

All devices, extraConfig and the reservation go into one ReconfigVM_Task, each new device with a negative key of its
own: several reconfigurations in flight race, and two devices with one key are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyVmomi import vim

from vcenter.errors import InvalidRequest
from vcenter.pci import id_text, signed, unsigned
from vcenter.plan import Change

_Device = vim.vm.device
_Passthrough = vim.vm.device.VirtualPCIPassthrough
_Operation = vim.vm.device.VirtualDeviceSpec.Operation

FIRST_NEW_KEY = -100
MAX_PASSTHROUGH_DEVICES = 16
MIN_VERSION_PVRDMA = 13
MIN_VERSION_PVRDMA_NATIVE_PEERS = 18
MIN_VERSION_DYNAMIC = 17
PROTOCOLS = ("rocev1", "rocev2")


@dataclass(frozen=True)
class FixedGpu:
    """One device of one host. `system_id` comes from the host's ConfigTarget, after the VM is placed there."""

    address: str
    vendor_id: int
    device_id: int
    system_id: str
    name: str = ""


@dataclass(frozen=True)
class DynamicGpu:
    """Any device that matches; DRS picks host and device at power-on. `label` must equal the device's hardware
    label.
    """

    vendor_id: int
    device_id: int
    sub_vendor_id: int | None = None
    sub_device_id: int | None = None
    label: str = ""


GpuDevice = FixedGpu | DynamicGpu


@dataclass(frozen=True)
class Port:
    """Where an adapter is plugged in: a distributed portgroup (both set), or a standard network by name and id."""

    name: str
    switch_uuid: str = ""
    portgroup_key: str = ""
    network_id: str = ""

    @property
    def distributed(self) -> bool:
        return bool(self.switch_uuid and self.portgroup_key)


@dataclass(frozen=True)
class Adapter:
    """A network adapter: VMXNET3, or PVRDMA when `protocol` is rocev1 or rocev2."""

    port: Port
    protocol: str = ""

    @property
    def pvrdma(self) -> bool:
        return bool(self.protocol)


@dataclass(frozen=True)
class Hardware:
    """Everything about a GPU server's hardware that gpuferry decides. Memory in MiB."""

    cpus: int
    memory_mib: int
    gpus: tuple[GpuDevice, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    annotation: str = ""

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.memory_mib < 4 or self.memory_mib % 4:
            raise InvalidRequest(f"{self.cpus} CPUs and {self.memory_mib} MiB: memory must be a multiple of 4 MiB.")
        if len(self.gpus) > MAX_PASSTHROUGH_DEVICES:
            raise InvalidRequest(f"A virtual machine takes at most {MAX_PASSTHROUGH_DEVICES} passthrough devices.")
        fixed = [gpu.address for gpu in self.gpus if isinstance(gpu, FixedGpu)]
        if len(set(fixed)) != len(fixed):
            raise InvalidRequest(f"A device is named twice: {', '.join(fixed)}.")
        for adapter in self.adapters:
            if adapter.pvrdma and adapter.protocol not in PROTOCOLS:
                raise InvalidRequest(f"{adapter.protocol!r} is no PVRDMA protocol: {' or '.join(PROTOCOLS)}.")
            if adapter.pvrdma and not adapter.port.distributed:
                raise InvalidRequest(
                    f"A PVRDMA adapter needs a distributed portgroup; {adapter.port.name!r} is a standard network."
                )

    @property
    def minimum_version(self) -> int:
        """The lowest virtual hardware version with all these devices (vmx-N)."""
        version = 13
        if any(isinstance(gpu, DynamicGpu) for gpu in self.gpus):
            version = max(version, MIN_VERSION_DYNAMIC)
        if any(adapter.pvrdma for adapter in self.adapters):
            version = max(version, MIN_VERSION_PVRDMA)
        return version


# -- devices
# --------------------------------------------------------------------------------------------------------------


def gpu_device(gpu: GpuDevice, key: int) -> Any:
    """The VirtualPCIPassthrough of a GPU."""
    if isinstance(gpu, FixedGpu):
        backing: Any = _Passthrough.DeviceBackingInfo(
            id=gpu.address,
            deviceId=id_text(gpu.device_id),
            vendorId=signed(gpu.vendor_id),
            systemId=gpu.system_id,
            deviceName=gpu.name,
        )
    else:
        allowed = _Passthrough.AllowedDevice(vendorId=unsigned(gpu.vendor_id), deviceId=unsigned(gpu.device_id))
        if gpu.sub_vendor_id is not None:
            allowed.subVendorId = unsigned(gpu.sub_vendor_id)
        if gpu.sub_device_id is not None:
            allowed.subDeviceId = unsigned(gpu.sub_device_id)
        backing = _Passthrough.DynamicBackingInfo(deviceName="", allowedDevice=[allowed])
        if gpu.label:
            backing.customLabel = gpu.label
    return _Passthrough(key=key, backing=backing)


def gpu_of(device: Any) -> GpuDevice | None:
    """The GPU that a VM's device is, or None when it is no PCI passthrough device that we know."""
    if not isinstance(device, _Passthrough):
        return None
    backing = device.backing
    if isinstance(backing, _Passthrough.DynamicBackingInfo):
        allowed = (backing.allowedDevice or [None])[0]
        if allowed is None:
            return None
        return DynamicGpu(
            vendor_id=unsigned(allowed.vendorId),
            device_id=unsigned(allowed.deviceId),
            sub_vendor_id=None if allowed.subVendorId is None else unsigned(allowed.subVendorId),
            sub_device_id=None if allowed.subDeviceId is None else unsigned(allowed.subDeviceId),
            label=str(backing.customLabel or ""),
        )
    if isinstance(backing, _Passthrough.DeviceBackingInfo):
        return FixedGpu(
            address=str(backing.id),
            vendor_id=unsigned(backing.vendorId),
            device_id=int(str(backing.deviceId) or "0", 16),
            system_id=str(backing.systemId),
            name=str(backing.deviceName or ""),
        )
    return None


def _same_gpu(one: GpuDevice, other: GpuDevice) -> bool:
    if isinstance(one, FixedGpu) and isinstance(other, FixedGpu):
        return (one.address, one.system_id) == (other.address, other.system_id)
    return one == other


def port_backing(port: Port) -> Any:
    if port.distributed:
        connection = vim.dvs.PortConnection(switchUuid=port.switch_uuid, portgroupKey=port.portgroup_key)
        return _Device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=connection)
    return _Device.VirtualEthernetCard.NetworkBackingInfo(deviceName=port.name)


def adapter_device(adapter: Adapter, key: int) -> Any:
    """The virtual Ethernet card of an adapter, connected at power-on, with a generated MAC address."""
    connectable = _Device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False)
    kind: Any = _Device.VirtualVmxnet3Vrdma if adapter.pvrdma else _Device.VirtualVmxnet3
    card = kind(key=key, backing=port_backing(adapter.port), connectable=connectable, addressType="generated")
    if adapter.pvrdma:
        card.deviceProtocol = adapter.protocol
    return card


def is_pvrdma(device: Any) -> bool:
    return isinstance(device, _Device.VirtualVmxnet3Vrdma)


def is_plain_adapter(device: Any) -> bool:
    return isinstance(device, _Device.VirtualEthernetCard) and not is_pvrdma(device)


def plugged_into(device: Any, port: Port) -> bool:
    """Whether a card is on this port already."""
    backing = device.backing
    if isinstance(backing, _Device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
        where = backing.port
        return port.distributed and (str(where.switchUuid), str(where.portgroupKey)) == (
            port.switch_uuid,
            port.portgroup_key,
        )
    return not port.distributed and str(getattr(backing, "deviceName", "")) == port.name


def _gpu_name(gpu: GpuDevice) -> str:
    if isinstance(gpu, FixedGpu):
        return f"{gpu.name or 'GPU'} at {gpu.address}"
    return f"any {gpu.vendor_id:04x}:{gpu.device_id:04x}" + (f" labelled {gpu.label}" if gpu.label else "")


# -- the difference
# -------------------------------------------------------------------------------------------------------


@dataclass
class _Edit:
    """Collects device changes; every new device gets the next negative key."""

    specs: list[Any] = field(default_factory=list)
    key: int = FIRST_NEW_KEY

    def next_key(self) -> int:
        self.key -= 1
        return self.key + 1

    def put(self, device: Any, operation: str) -> None:
        self.specs.append(_Device.VirtualDeviceSpec(operation=operation, device=device))


def difference(name: str, wanted: Hardware, config: Any) -> tuple[Any | None, tuple[Change, ...]]:
    """The ConfigSpec that takes a VM from `config` (vim.vm.ConfigInfo) to `wanted`, and what it changes.

    (None, ()) when nothing differs. PCI passthrough devices and PVRDMA adapters that are not wanted are removed; plain
    network adapters beyond the wanted ones, disks and everything else stay as they are.
    """
    spec: Any = vim.vm.ConfigSpec()
    changes: list[Change] = []

    def change(what: str, before: object, after: object) -> None:
        changes.append(Change(name, what, "" if before is None else str(before), "" if after is None else str(after)))

    if config.hardware.numCPU != wanted.cpus:
        change("CPUs", config.hardware.numCPU, wanted.cpus)
        spec.numCPUs = wanted.cpus
    if config.hardware.memoryMB != wanted.memory_mib:
        change("memory, MiB", config.hardware.memoryMB, wanted.memory_mib)
        spec.memoryMB = wanted.memory_mib
    reserved = getattr(config.memoryAllocation, "reservation", None) or 0
    if reserved != wanted.memory_mib or not config.memoryReservationLockedToMax:
        change("memory reserved, MiB", reserved, wanted.memory_mib)
        spec.memoryReservationLockedToMax = True
        spec.memoryAllocation = vim.ResourceAllocationInfo(reservation=wanted.memory_mib)
    # Nested virtualization and hot add exclude passthrough (Broadcom KB 437651; vSphere VM administration).
    for field_name, what in (
        ("cpuHotAddEnabled", "CPU hot add"),
        ("memoryHotAddEnabled", "memory hot add"),
        ("nestedHVEnabled", "nested virtualization"),
    ):
        if getattr(config, field_name, None):
            change(what, "on", "off")
            setattr(spec, field_name, False)
    if wanted.annotation and (config.annotation or "") != wanted.annotation:
        change("notes", config.annotation or None, wanted.annotation)
        spec.annotation = wanted.annotation
    options = option_changes(wanted.options, config.extraConfig or ())
    for key, (before, after) in options.items():
        change(f"option {key}", _short(before), _short(after))
    if options:
        spec.extraConfig = [vim.option.OptionValue(key=key, value=after or "") for key, (_, after) in options.items()]
    edit = _Edit()
    devices = list(config.hardware.device or ())
    _gpu_changes(wanted.gpus, devices, edit, change)
    _adapter_changes(wanted.adapters, devices, edit, change)
    if edit.specs:
        spec.deviceChange = edit.specs
    return (spec, tuple(changes)) if changes else (None, ())


def _short(value: str | None) -> str | None:
    """A guestinfo value is long and may hold a token: only its size is shown."""
    return f"({len(value)} bytes)" if value is not None and len(value) > 60 else value


def option_changes(wanted: Mapping[str, str], present: Iterable[Any]) -> dict[str, tuple[str | None, str | None]]:
    """(before, after) of the extraConfig keys that differ. An empty value removes a key, so "" equals absence."""
    there = {str(option.key): str(option.value) for option in present}
    return {
        key: (there.get(key), value or None)
        for key, value in sorted(wanted.items())
        if (there.get(key) or "") != (value or "")
    }


def _gpu_changes(wanted: Sequence[GpuDevice], devices: Sequence[Any], edit: _Edit, change: Any) -> None:
    missing = list(wanted)
    for device in devices:
        if not isinstance(device, _Passthrough):
            continue
        present = gpu_of(device)
        match = next((gpu for gpu in missing if present is not None and _same_gpu(gpu, present)), None)
        if match is not None:
            missing.remove(match)
        else:
            change("GPU", _gpu_name(present) if present else f"device {device.key}", None)
            edit.put(device, _Operation.remove)
    for gpu in missing:
        change("GPU", None, _gpu_name(gpu))
        edit.put(gpu_device(gpu, edit.next_key()), _Operation.add)


def _adapter_changes(wanted: Sequence[Adapter], devices: Sequence[Any], edit: _Edit, change: Any) -> None:
    plain = [device for device in devices if is_plain_adapter(device)]
    rdma = [device for device in devices if is_pvrdma(device)]
    for adapter in (adapter for adapter in wanted if not adapter.pvrdma):
        if not plain:
            change("network adapter", None, f"VMXNET3 on {adapter.port.name}")
            edit.put(adapter_device(adapter, edit.next_key()), _Operation.add)
            continue
        card = plain.pop(0)
        if not plugged_into(card, adapter.port):
            change(f"network adapter {card.key}", network_name(card), adapter.port.name)
            card.backing = port_backing(adapter.port)
            edit.put(card, _Operation.edit)
    for adapter in (adapter for adapter in wanted if adapter.pvrdma):
        same = next(
            (
                c
                for c in rdma
                if plugged_into(c, adapter.port) and str(c.deviceProtocol or "rocev1") == adapter.protocol
            ),
            None,
        )
        if same is not None:
            rdma.remove(same)
            continue
        change("PVRDMA adapter", None, f"{adapter.protocol} on {adapter.port.name}")
        edit.put(adapter_device(adapter, edit.next_key()), _Operation.add)
    for card in rdma:
        change("PVRDMA adapter", f"{card.deviceProtocol} on {network_name(card)}", None)
        edit.put(card, _Operation.remove)


def differing_adapters(
    wanted: Sequence[Adapter], devices: Sequence[Any], name: str
) -> tuple[list[Any], tuple[Change, ...]]:
    """The device changes that bring network adapters to `wanted`, and the changes for people; for use outside a
    server.
    """
    changes: list[Change] = []
    edit = _Edit()
    _adapter_changes(
        wanted,
        devices,
        edit,
        lambda what, before, after: changes.append(Change(name, what, before or "", after or "")),
    )
    return edit.specs, tuple(changes)


def network_name(card: Any) -> str:
    """Where a card is plugged in, for people: the network's name, or the portgroup's key."""
    port = getattr(card.backing, "port", None)
    return str(getattr(port, "portgroupKey", "") or getattr(card.backing, "deviceName", "") or "nowhere")


# -- advice
# ---------------------------------------------------------------------------------------------------------------


def advised_memory_mib(framebuffers_mib: Iterable[int], override_mib: int = 0) -> int:
    """Memory for a GPU server: 1.5 times its GPUs' memory, in whole GiB, at least 8 GiB; `override_mib` wins."""
    if override_mib:
        return override_mib
    needed = sum(framebuffers_mib) * 3 // 2
    return max(8, -(-needed // 1024)) * 1024


def memory_warning(memory_mib: int, framebuffers_mib: Iterable[int]) -> str:
    """A warning when the memory is below 1.5 times the GPUs' memory, else ""."""
    total = sum(framebuffers_mib)
    if memory_mib * 2 < total * 3:
        return (
            f"{memory_mib} MiB is less than 1.5 times the GPUs' {total} MiB: staging large copies may run short. "
            f"{advised_memory_mib([total])} MiB is advised."
        )
    return ""
