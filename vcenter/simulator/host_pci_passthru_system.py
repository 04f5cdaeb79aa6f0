"""HostPciPassthruSystem: which PCI devices are handed to virtual machines instead of the host's own drivers.

A device is capable, enabled (configured) and active (in effect). Enabled without active waits for a reboot. Devices
with the same ``dependentDevice`` are changed together or not at all; one that a running virtual machine holds, or that
the host's graphics driver shares out (sharedDirect), is not changed.
"""

import zlib
from dataclasses import dataclass, replace
from typing import Any

from .api import vim
from .cards import GpuModel, pci_device
from .managed_object import Call, Managed, derived, invalid_argument, method
from .values import build
from .world import World


@dataclass(frozen=True)
class Slot:
    """The passthrough state of one device."""

    device: Any
    group: str
    capable: bool = False
    enabled: bool = False
    active: bool = False
    label: str | None = None
    gpu: GpuModel | None = None
    rebinds: bool = True


class HostPciPassthruSystem(Managed):
    """The passthrough part of a host."""

    kind = vim.host.PciPassthruSystem

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"pciPassthruSystem-{host.moid}")
        self.owner = self.host = host
        self.slots: dict[str, Slot] = {device.id: Slot(device, device.id) for device in host.values["_devices"]}

    @property
    def system_id(self) -> str:
        """The host's name for itself in passthrough backings: another host has another."""
        return f"{self.host.uuid[:8]}-{zlib.crc32(self.host.uuid.encode()):08x}-{self.host.uuid[24:]}"

    def insert_gpu(
        self, bus: int, model: GpuModel, state: str = "off", label: str | None = None, rebinds: bool = True
    ) -> str:
        """Puts a GPU into a free bus; ``state`` is off, enabled (a reboot is due) or active. Answers its address."""
        devices = [pci_device(bus, 0, number, each, "0000:00:01.0") for number, each in enumerate(model.functions)]
        for number, device in enumerate(devices):
            self.slots[device.id] = Slot(
                device,
                group=devices[0].id,
                capable=True,
                enabled=state != "off",
                active=state == "active",
                label=label if number == 0 else None,
                gpu=model if number == 0 else None,
                rebinds=rebinds,
            )
        self.host.set_quietly("_devices", [*self.host.values["_devices"], *devices])
        return str(devices[0].id)

    def insert(self, device: Any, capable: bool) -> None:
        """Puts any other device in."""
        self.slots[device.id] = Slot(device, device.id, capable=capable)
        self.host.set_quietly("_devices", [*self.host.values["_devices"], device])

    def users(self, address: str) -> list[Any]:
        """Running virtual machines that hold a device."""
        return [each for each in self.host.running_machines() if address in each.held_devices()]

    def pending(self) -> list[str]:
        """Devices whose configuration waits for a reboot."""
        return [address for address, slot in self.slots.items() if slot.enabled != slot.active]

    def boot(self) -> None:
        """What a reboot does: configuration takes effect."""
        self._replace({address: replace(slot, active=slot.enabled) for address, slot in self.slots.items()})

    def _replace(self, slots: dict[str, Slot]) -> None:
        self.slots = {**self.slots, **slots}
        self.changed("pciPassthruInfo")
        self.host.graphics.changed("graphicsInfo")
        self.host.changed("_passthru")

    @derived()
    def pciPassthruInfo(self) -> Any:
        """The state of every device."""
        return [
            build(
                vim.host.PciPassthruInfo,
                id=address,
                dependentDevice=slot.group,
                passthruCapable=slot.capable,
                passthruEnabled=slot.enabled,
                passthruActive=slot.active,
                hardwareLabel=slot.label,
            )
            for address, slot in self.slots.items()
        ]

    @method
    def Refresh(self, call: Call) -> None:
        """Looks at the hardware anew."""
        self.host.demand_connected()

    @method
    def UpdatePassthruConfig(self, call: Call, config: Any) -> None:
        """Enables, disables or labels devices; at once where host and device can, else at the next boot."""
        self.host.demand_connected()
        if not config:
            raise invalid_argument("config", "It is empty.")
        wanted = {each.id: each for each in config}
        changes: dict[str, Slot] = {}
        for address, each in wanted.items():
            slot = self.slots.get(address)
            if slot is None:
                raise self._fault(f"there is no device {address}")
            if each.passthruEnabled and not slot.capable:
                raise self._fault(f"the device {address} is not capable of passthrough")
            made = slot
            if each.passthruEnabled != slot.enabled or each.passthruEnabled != slot.active:
                self._demand_changeable(address, slot, wanted, each.passthruEnabled)
                at_once = each.applyNow
                if at_once is None:
                    at_once = self.host.values["capability"].deviceRebindWithoutRebootSupported
                active = each.passthruEnabled if at_once and slot.rebinds else slot.active
                made = replace(slot, enabled=each.passthruEnabled, active=active)
            if each.hardwareLabel is not None:
                made = replace(made, label=each.hardwareLabel or None)
            changes[address] = made
        self._replace(changes)

    def _demand_changeable(self, address: str, slot: Slot, wanted: dict[str, Any], enabled: bool) -> None:
        users = self.users(address)
        if users:
            raise vim.fault.HostConfigFault(
                msg=f"Configuration of {self.host.name} failed: the device {address} is in use by the virtual machine "
                f"{users[0].name}."
            )
        if enabled and self.host.graphics.shared_direct(address):
            raise self._fault(f"the device {address} is used by the host's graphics (sharedDirect)")
        for other, beside in self.slots.items():
            if beside.group != slot.group or other == address:
                continue
            asked = wanted[other].passthruEnabled if other in wanted else beside.enabled
            if asked != enabled:
                raise self._fault(f"the device {address} depends on {other}, which must be changed together with it")

    def _fault(self, message: str) -> Any:
        return vim.fault.HostConfigFault(msg=f"Configuration of {self.host.name} failed: {message}.")

    def targets(self) -> list[Any]:
        """What QueryConfigTarget lists for fixed passthrough."""
        return [
            build(
                vim.vm.PciPassthroughInfo,
                name=address,
                pciDevice=slot.device,
                systemId=self.system_id,
            )
            for address, slot in self.slots.items()
            if slot.active
        ]

    def dynamic_targets(self) -> list[Any]:
        """What QueryConfigTarget lists for dynamic passthrough; ids are unsigned here."""
        return [
            build(
                vim.vm.DynamicPassthroughInfo,
                name=slot.device.deviceName,
                vendorName=slot.device.vendorName,
                deviceName=slot.device.deviceName,
                customLabel=slot.label or "",
                vendorId=slot.device.vendorId & 0xFFFF,
                deviceId=slot.device.deviceId & 0xFFFF,
            )
            for slot in self.slots.values()
            if slot.active
        ]

    def bindings(self) -> list[Any]:
        """Which running virtual machine holds which device."""
        return [
            build(
                vim.host.AssignableHardwareBinding,
                instanceId=f"pci:{address}",
                vm=machine.ref,
                pciId=address,
                deviceKey=key,
            )
            for machine in self.host.running_machines()
            for address, key in machine.held_devices().items()
        ]

    def labels(self) -> Any:
        """Hardware labels as attribute overrides."""
        return build(
            vim.host.AssignableHardwareConfig,
            attributeOverride=[
                build(
                    vim.host.AssignableHardwareConfig.AttributeOverride,
                    instanceId=f"pci:{address}",
                    name="customLabel",
                    value=slot.label,
                )
                for address, slot in self.slots.items()
                if slot.label
            ],
        )
