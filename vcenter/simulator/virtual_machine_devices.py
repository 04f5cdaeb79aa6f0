"""Device changes of a virtual machine: what may be added, edited and removed, and how a new device is completed.

Faults are those of vSphere and name the place in the specification. What only the hypervisor can find out (a card in
use, a window too small) is found when the machine is powered on: see virtual_machine_rules.
"""

from typing import TYPE_CHECKING, Any

from .api import vim
from .values import deep_copy, is_set, vary
from .virtual_machine_config import PCI_CONTROLLER, describe, new_mac

if TYPE_CHECKING:
    from .world import World

_device: Any = vim.vm.device
MAX_PASSTHROUGH = 16
_POWERED_ON = "poweredOn"

# Class, first key vCenter gives such devices, label in the client.
_KEYS: list[tuple[Any, int, str]] = [
    (_device.VirtualIDEController, 200, "IDE"),
    (_device.VirtualAHCIController, 15000, "SATA controller"),
    (_device.VirtualNVMEController, 31000, "NVME controller"),
    (_device.VirtualUSBXHCIController, 14000, "USB xHCI controller"),
    (_device.VirtualUSBController, 7000, "USB controller"),
    (_device.VirtualSCSIController, 1000, "SCSI controller"),
    (_device.VirtualDisk, 2000, "Hard disk"),
    (_device.VirtualCdrom, 3000, "CD/DVD drive"),
    (_device.VirtualEthernetCard, 4000, "Network adapter"),
    (_device.VirtualFloppy, 8000, "Floppy drive"),
    (_device.VirtualSerialPort, 9000, "Serial port"),
    (_device.VirtualTPM, 11000, "Virtual TPM"),
    (_device.VirtualPCIPassthrough, 13000, "PCI device"),
    (_device.VirtualPrecisionClock, 19000, "Precision clock"),
]
_ONE_BASED = (_device.VirtualDisk, _device.VirtualCdrom, _device.VirtualEthernetCard, _device.VirtualSerialPort)
_FIRST_UNIT = {"VirtualEthernetCard": 7, "VirtualPCIPassthrough": 18}


class DeviceChanges:
    """The devices of one machine while one specification is applied to them; nothing is kept when it fails."""

    def __init__(
        self, world: "World", config: Any, *, version: int, host: Any, power_state: str, directory: str, store: Any
    ) -> None:
        self._world = world
        self._version = version
        self._host = host
        self._on = power_state == _POWERED_ON
        self._directory = directory
        self._store = store
        self._fixed_hot_plug = bool(config.fixedPassthruHotPlugEnabled)
        self.devices: list[Any] = list(config.hardware.device)
        self.new_files: list[tuple[Any, str, int]] = []
        self.gone_files: list[tuple[Any, str]] = []
        self._renamed: dict[int, int] = {}

    def apply(self, changes: Any) -> None:
        """Applies all changes in order. Raises the fault of the first that cannot be."""
        self._demand_distinct_keys(changes)
        for index, change in enumerate(changes):
            if change.operation == "add":
                self._add(index, change)
            elif change.operation == "edit":
                self._edit(index, change)
            elif change.operation == "remove":
                self._remove(index, change)
            else:
                raise self._invalid(index, "operation", "The operation is missing.")
        held = [each for each in self.devices if isinstance(each, _device.VirtualPCIPassthrough)]
        if len(held) > MAX_PASSTHROUGH:
            raise vim.fault.TooManyDevices(
                property="spec.deviceChange",
                deviceIndex=len(changes) - 1,
                msg=f"There are more than {MAX_PASSTHROUGH} PCI devices in the virtual machine.",
            )

    def _demand_distinct_keys(self, changes: Any) -> None:
        seen: set[int] = set()
        for index, change in enumerate(changes):
            if change.operation == "add":
                if change.device.key in seen:
                    raise self._invalid(index, "device.key", "Cannot add multiple devices using the same device key.")
                seen.add(change.device.key)

    # Adding.

    def _add(self, index: int, change: Any) -> None:
        device = deep_copy(change.device)
        if self._on:
            self._demand_hot_add(index, device)
        asked = device.key
        device = self._keyed(device)
        self._renamed[asked] = device.key
        if isinstance(device, _device.VirtualEthernetCard):
            device = self._adapter(index, device)
        elif isinstance(device, _device.VirtualPCIPassthrough):
            device = self._passthrough(index, device)
        elif isinstance(device, _device.VirtualDisk):
            device = self._disk(index, device, change.fileOperation)
        device = self._placed(index, device)
        self.devices.append(device)

    def _demand_hot_add(self, index: int, device: Any) -> None:
        pluggable = (
            _device.VirtualDisk,
            _device.VirtualEthernetCard,
            _device.VirtualSCSIController,
            _device.VirtualCdrom,
            _device.VirtualUSBController,
        )
        refused = (_device.VirtualPCIPassthrough, _device.VirtualVmxnet3Vrdma)
        if isinstance(device, refused) or not isinstance(device, pluggable):
            raise vim.fault.DeviceHotPlugNotSupported(
                property="virtualDeviceSpec.device",
                deviceIndex=index,
                msg=f"Hot plug is not supported for this virtual machine: {device._wsdlName} can be added and removed "
                "only while it is powered off.",
            )

    def _keyed(self, device: Any) -> Any:
        base, label = next(
            ((base, label) for cls, base, label in _KEYS if isinstance(device, cls)), (20000, device._wsdlName)
        )
        taken = {each.key for each in self.devices}
        key = next(number for number in range(base, base + 1000) if number not in taken)
        shown = key - base + (1 if isinstance(device, _ONE_BASED) else 0)
        changes: dict[str, Any] = {"key": key, "deviceInfo": describe(f"{label} {shown}", _summary(device))}
        if isinstance(device, _device.VirtualController) and base in {1000, 15000, 31000}:
            changes["busNumber"] = key - base
        return vary(device, **changes)

    def _placed(self, index: int, device: Any) -> Any:
        """Gives the device its controller and a free unit there."""
        if isinstance(device, _device.VirtualIDEController):
            return device
        controller = device.controllerKey
        if controller is not None:
            controller = self._renamed.get(controller, controller)
        elif isinstance(device, _device.VirtualDisk | _device.VirtualCdrom):
            raise self._invalid(index, "device.controllerKey", "A disk needs a controller.")
        else:
            controller = PCI_CONTROLLER
        held = next((each for each in self.devices if each.key == controller), None)
        if held is None or not isinstance(held, _device.VirtualController):
            raise self._invalid(index, "device.controllerKey", f"There is no controller {controller}.")
        taken = {each.unitNumber for each in self.devices if each.controllerKey == controller}
        unit = device.unitNumber
        if unit is None or unit < 0 or (controller == PCI_CONTROLLER and unit in taken):
            first = 0
            if controller == PCI_CONTROLLER:
                first = next(
                    (unit for name, unit in _FIRST_UNIT.items() if isinstance(device, getattr(_device, name))), 3
                )
            scsi = isinstance(held, _device.VirtualSCSIController)
            unit = next(number for number in range(first, 1000) if number not in taken and not (scsi and number == 7))
        elif unit in taken:
            raise self._invalid(index, "device.unitNumber", f"The unit {unit} of controller {controller} is taken.")
        at = self.devices.index(held)
        self.devices[at] = vary(held, device=[*held.device, device.key])
        return vary(device, controllerKey=controller, unitNumber=unit)

    def _adapter(self, index: int, device: Any) -> Any:
        if isinstance(device, _device.VirtualVmxnet3Vrdma):
            self._demand_version(index, 13)
            if not isinstance(device.backing, _device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
                raise self._bad_backing(index, "A PVRDMA adapter needs a distributed port group.")
            if device.deviceProtocol not in {None, "rocev1", "rocev2"}:
                raise self._invalid(index, "device.deviceProtocol", f"There is no protocol {device.deviceProtocol}.")
            if device.deviceProtocol is None:
                device = vary(device, deviceProtocol="rocev1")
        device = vary(device, backing=self._network_backing(index, device.backing))
        manual = device.addressType in {"manual", "Manual"} and device.macAddress
        if not manual:
            device = vary(device, addressType="assigned", macAddress=new_mac())
        else:
            device = vary(device, macAddress=device.macAddress.lower())
        known = device.connectable
        return vary(
            device,
            connectable=_device.VirtualDevice.ConnectInfo(
                startConnected=known.startConnected if known is not None else True,
                allowGuestControl=known.allowGuestControl if known is not None else True,
                connected=self._on,
                status="ok" if self._on else "untried",
            ),
            wakeOnLanEnabled=device.wakeOnLanEnabled is not False,
        )

    def _network_backing(self, index: int, backing: Any) -> Any:
        found = self._world.objects
        if isinstance(backing, _device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
            group: Any = found.get(backing.port.portgroupKey or "")
            if group is None or not isinstance(group.ref, vim.dvs.DistributedVirtualPortgroup):
                raise self._bad_backing(index, f"There is no distributed port group {backing.port.portgroupKey}.")
            if group.switch.uuid != backing.port.switchUuid:
                raise self._bad_backing(index, f"{group.name} is not of the switch {backing.port.switchUuid}.")
            if not group.reachable_from(self._host):
                raise vim.fault.CannotAccessNetwork(
                    device="Network adapter",
                    backing=group.name,
                    connected=False,
                    network=group.ref,
                    msg=f"The network {group.name} is not accessible on {self._host.name}.",
                )
            return backing
        if isinstance(backing, _device.VirtualEthernetCard.NetworkBackingInfo):
            for reference in self._host.values["network"]:
                network: Any = found[reference._moId]
                if isinstance(network.ref, vim.dvs.DistributedVirtualPortgroup):
                    continue
                if network.name == backing.deviceName or network.ref == backing.network:
                    return vary(backing, deviceName=network.name, network=network.ref)
            raise self._bad_backing(index, f"There is no network {backing.deviceName} on {self._host.name}.")
        raise self._bad_backing(index, "A network adapter needs a network.")

    def _passthrough(self, index: int, device: Any) -> Any:
        backing = device.backing
        if isinstance(backing, _device.VirtualPCIPassthrough.DeviceBackingInfo):
            self._demand_fixed(index, backing)
            return device
        if isinstance(backing, _device.VirtualPCIPassthrough.DynamicBackingInfo):
            self._demand_version(index, 17)
            if not is_set(backing.allowedDevice):
                raise self._bad_backing(index, "A dynamic DirectPath device names no allowed device.")
            for each in backing.allowedDevice:
                if not (0 <= each.vendorId <= 0xFFFF and 0 <= each.deviceId <= 0xFFFF):
                    raise self._bad_backing(index, "Vendor and device ids of allowed devices are 0 to 65535.")
            return vary(device, backing=vary(backing, assignedId=None))
        if isinstance(backing, _device.VirtualPCIPassthrough.VmiopBackingInfo):
            return device
        raise self._bad_backing(index, "A PCI device needs a backing.")

    def _demand_fixed(self, index: int, backing: Any) -> None:
        mismatch = (
            "The systemId does not match the current system or the deviceId and the vendorId do not match the device "
            f"currently at {backing.id}."
        )
        slot = self._host.passthrough.slots.get(backing.id)
        if slot is None or backing.systemId != self._host.passthrough.system_id:
            raise self._bad_backing(index, mismatch)
        expected = format(slot.device.deviceId & 0xFFFF, "x")
        if backing.deviceId != expected or (backing.vendorId & 0xFFFF) != (slot.device.vendorId & 0xFFFF):
            raise self._bad_backing(index, mismatch)
        for each in self.devices:
            known = each.backing
            if isinstance(known, _device.VirtualPCIPassthrough.DeviceBackingInfo) and known.id == backing.id:
                raise self._bad_backing(index, f"The device {backing.id} is in the virtual machine already.")

    def _disk(self, index: int, device: Any, operation: str | None) -> Any:
        size = device.capacityInBytes or (device.capacityInKB or 0) << 10
        backing = device.backing
        if operation is None:
            if not getattr(backing, "fileName", None):
                raise self._bad_backing(index, "An existing disk names its file.")
            return device
        if size <= 0:
            raise self._invalid(index, "device.capacityInKB", "A new disk needs a size.")
        if backing is None:
            backing = _device.VirtualDisk.FlatVer2BackingInfo(diskMode="persistent", thinProvisioned=True)
        store = self._world.find(backing.datastore) if getattr(backing, "datastore", None) else self._store
        number = device.key - 2000
        name = backing.fileName or ""
        if not name or name.endswith("]"):
            suffix = f"_{number}" if number else ""
            name = f"[{store.name}] {self._directory}/{self._directory}{suffix}.vmdk"
        self.new_files.append((store, name, size))
        return vary(
            device,
            capacityInKB=size >> 10,
            capacityInBytes=size,
            backing=vary(backing, fileName=name, datastore=store.ref),
        )

    # Editing and removing.

    def _at(self, index: int, device: Any) -> int:
        for at, each in enumerate(self.devices):
            if each.key == device.key:
                return at
        raise self._invalid(index, "device.key", f"There is no device {device.key} in the virtual machine.")

    def _edit(self, index: int, change: Any) -> None:
        at = self._at(index, change.device)
        held, device = self.devices[at], deep_copy(change.device)
        if device.__class__ is not held.__class__:
            raise self._invalid(index, "device", f"The device {held.key} is a {held._wsdlName}.")
        if isinstance(held, _device.VirtualPCIPassthrough) and self._on:
            self._demand_hot_add(index, held)
        changes = {name: value for name, value in device.__dict__.items() if is_set(value)}
        if isinstance(held, _device.VirtualEthernetCard):
            if device.backing is not None:
                changes["backing"] = self._network_backing(index, device.backing)
            if "macAddress" in changes and device.addressType not in {"manual", "Manual"}:
                changes["macAddress"] = held.macAddress
        elif isinstance(held, _device.VirtualDisk):
            size = device.capacityInBytes or (device.capacityInKB or 0) << 10
            if size and size < held.capacityInBytes:
                raise self._invalid(index, "device.capacityInKB", "A disk cannot shrink.")
            changes.update(capacityInBytes=size or held.capacityInBytes)
            changes["capacityInKB"] = changes["capacityInBytes"] >> 10
            changes["backing"] = held.backing
        elif isinstance(held, _device.VirtualPCIPassthrough) and device.backing is not None:
            del self.devices[at]
            changes["backing"] = self._passthrough(index, device).backing
            self.devices.insert(at, held)
        self.devices[at] = vary(held, **changes)

    def _remove(self, index: int, change: Any) -> None:
        at = self._at(index, change.device)
        held = self.devices[at]
        if (
            self._on
            and not isinstance(held, _device.VirtualDisk | _device.VirtualCdrom)
            and type(held) not in {_device.VirtualVmxnet3, _device.VirtualE1000e}
        ):
            self._demand_hot_add(index, held)
        if isinstance(held, _device.VirtualController) and is_set(held.device):
            raise self._invalid(index, "device.key", "The controller has devices.")
        if isinstance(held, _device.VirtualDisk) and change.fileOperation == "destroy":
            self.gone_files.append((self._world.find(held.backing.datastore), held.backing.fileName))
        del self.devices[at]
        for position, each in enumerate(self.devices):
            if each.key == held.controllerKey:
                self.devices[position] = vary(each, device=[key for key in each.device if key != held.key])

    # Faults.

    def _demand_version(self, index: int, needed: int) -> None:
        if self._version < needed:
            raise vim.fault.DeviceUnsupportedForVmVersion(
                property="virtualDeviceSpec.device",
                deviceIndex=index,
                currentVersion=f"vmx-{self._version:02d}",
                expectedVersion=f"vmx-{needed:02d}",
                msg=f"The device or operation is not supported on virtual machine version vmx-{self._version:02d}. "
                f"A minimum version of 'vmx-{needed:02d}' is required.",
            )

    @staticmethod
    def _invalid(index: int, where: str, message: str) -> Any:
        return vim.fault.InvalidDeviceSpec(
            property=f"virtualDeviceSpec.{where}",
            deviceIndex=index,
            msg=f"Invalid configuration for device '{index}'. {message}",
        )

    @staticmethod
    def _bad_backing(index: int, message: str) -> Any:
        return vim.fault.InvalidDeviceBacking(
            property="virtualDeviceSpec.device.backing",
            deviceIndex=index,
            msg=f"Incompatible device backing specified for device '{index}'. {message}",
        )


def _summary(device: Any) -> str:
    if isinstance(device, _device.VirtualVmxnet3Vrdma):
        return "PVRDMA network adapter"
    if isinstance(device, _device.VirtualEthernetCard):
        return str(getattr(device.backing, "deviceName", "") or "DVSwitch")
    if isinstance(device, _device.VirtualPCIPassthrough):
        return str(getattr(device.backing, "id", "") or "Dynamic DirectPath IO")
    return str(device._wsdlName)
