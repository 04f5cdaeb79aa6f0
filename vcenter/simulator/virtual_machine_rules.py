"""What the hypervisor demands before it starts a virtual machine: the rules of DirectPath I/O and of memory.

The rules are VMware's documentation's and knowledge base's: full memory reservation, no nested virtualization and no
hot-add beside passthrough, a card on this host that is active and that nobody else holds, and a 64-bit MMIO window that
holds the cards' memory (KB 323402).
"""

from typing import Any

from .api import vim
from .managed_object import localized
from .virtual_machine_spec import hardware_version

_device: Any = vim.vm.device
_GIB_IN_MIB = 1024
# Without 64-bit MMIO a card's memory must fit below 4 GiB with everything else; up to this sum ESXi manages by itself.
_WINDOW_BY_ITSELF_GIB = 16
_DEFAULT_WINDOW_GIB = 32


def passthrough_devices(config: Any) -> list[Any]:
    """Fixed and dynamic DirectPath devices of a configuration."""
    return [
        each
        for each in config.hardware.device
        if isinstance(each, _device.VirtualPCIPassthrough)
        and isinstance(
            each.backing,
            _device.VirtualPCIPassthrough.DeviceBackingInfo | _device.VirtualPCIPassthrough.DynamicBackingInfo,
        )
    ]


def has_pvrdma(config: Any) -> bool:
    """Whether there is a PVRDMA adapter."""
    return any(isinstance(each, _device.VirtualVmxnet3Vrdma) for each in config.hardware.device)


def start_fault(machine: str, module: str, detail: str) -> Any:
    """The fault of a machine that could not be powered on, with its chain of messages."""
    reason = f"Module '{module}' power on failed."
    return vim.fault.GenericVmConfigFault(
        reason=reason,
        msg=f"{reason} {detail}",
        faultMessage=[
            localized(f"An error was received from the ESX host while powering on VM {machine}.", "msg.vpxd.start"),
            localized(f"Failed to start the virtual machine.\n{reason}", "msg.moduletable.powerOnFailed"),
            localized(detail, "msg.pciPassthru.start"),
        ],
    )


def check_configuration(machine: Any) -> None:
    """What can be said without looking at the host. Raises vim.fault.GenericVmConfigFault."""
    config = machine.values["config"]
    passed = passthrough_devices(config)
    size = config.hardware.memoryMB
    reserved = (config.memoryAllocation.reservation or 0) if config.memoryAllocation is not None else 0
    if (passed or has_pvrdma(config)) and reserved < size:
        detail = f"Invalid memory setting: memory reservation (sched.mem.min) should be equal to memsize({size})."
        raise vim.fault.GenericVmConfigFault(
            reason=detail, msg=detail, faultMessage=[localized(detail, "msg.memory.reservation")]
        )
    if not passed:
        return
    if config.nestedHVEnabled:
        raise start_fault(
            machine.name, "DevicePowerOn", "PCI passthrough devices cannot be used with nested hardware virtualization."
        )
    if config.cpuHotAddEnabled or config.memoryHotAddEnabled:
        raise start_fault(
            machine.name,
            "DevicePowerOn",
            "PCI passthrough devices cannot be used when memory or CPU hot add is enabled.",
        )
    if any(isinstance(each.backing, _device.VirtualPCIPassthrough.DynamicBackingInfo) for each in passed):
        number = hardware_version(config)
        if number < 17:
            raise start_fault(machine.name, "DevicePowerOn", f"Dynamic DirectPath needs vmx-17, not vmx-{number:02d}.")


def assign_devices(machine: Any, host: Any) -> dict[int, str]:
    """Device key to address on ``host`` for every DirectPath device of a machine that is about to start there.

    Raises vim.fault.GenericVmConfigFault for a card that is not there, not active or held by another machine.
    """
    assigned: dict[int, str] = {}
    taken = {address for each in host.running_machines() if each is not machine for address in each.held_devices()}
    slots = host.passthrough.slots
    passed = passthrough_devices(machine.values["config"])
    fixed = _device.VirtualPCIPassthrough.DeviceBackingInfo
    for device in sorted(passed, key=lambda each: not isinstance(each.backing, fixed)):
        label = f"pciPassthru{device.key - 13000}"
        backing = device.backing
        if isinstance(backing, fixed):
            address = backing.id
            slot = slots.get(address)
            if slot is None or backing.systemId != host.passthrough.system_id:
                raise start_fault(
                    machine.name, "DevicePowerOn", f"The device {address} ({label}) is not on {host.name}."
                )
            if not slot.active:
                raise start_fault(
                    machine.name,
                    "DevicePowerOn",
                    f"Failed to register the device {label} for {address} due to unavailable hardware or software "
                    "support: it is not configured for passthrough.",
                )
            if address in taken:
                raise start_fault(
                    machine.name,
                    "DevicePowerOn",
                    f"The device {address} ({label}) is already in use by another virtual machine.",
                )
        else:
            address = next(
                (each for each, slot in slots.items() if slot.active and each not in taken and _allowed(slot, backing)),
                "",
            )
            if not address:
                raise start_fault(machine.name, "DevicePowerOn", f"No free device on {host.name} fits {label}.")
        taken.add(address)
        assigned[device.key] = address
    return assigned


def _allowed(slot: Any, backing: Any) -> bool:
    if (backing.customLabel or "") != (slot.label or ""):
        return False
    device = slot.device
    for each in backing.allowedDevice:
        if each.vendorId != device.vendorId & 0xFFFF or each.deviceId != device.deviceId & 0xFFFF:
            continue
        if each.subVendorId is not None and each.subVendorId != device.subVendorId & 0xFFFF:
            continue
        if each.subDeviceId is not None and each.subDeviceId != device.subDeviceId & 0xFFFF:
            continue
        return True
    return False


def check_mmio(machine: Any, host: Any, assigned: dict[int, str]) -> None:
    """Whether the memory windows of the cards fit. Raises vim.fault.GenericVmConfigFault."""
    cards = [host.passthrough.slots[address].gpu for address in assigned.values()]
    needed = sum(window_gib(card.memory_mib) for card in cards if card is not None)
    if not needed:
        return
    config = machine.values["config"]
    extra = {each.key.lower(): str(each.value) for each in config.extraConfig}
    wide = extra.get("pcipassthru.use64bitmmio", "").upper() == "TRUE"
    if not wide and needed <= _WINDOW_BY_ITSELF_GIB:
        return
    if not wide:
        raise start_fault(machine.name, "DevicePowerOn", f"{needed} GB of device memory need pciPassthru.use64bitMMIO.")
    if config.firmware != "efi":
        raise start_fault(machine.name, "DevicePowerOn", "64-bit MMIO needs EFI firmware.")
    given = extra.get("pcipassthru.64bitmmiosizegb", "")
    size = int(given) if given.isdigit() else _DEFAULT_WINDOW_GIB
    if size <= needed:
        raise start_fault(
            machine.name,
            "DevicePowerOn",
            f"The 64-bit MMIO window of {size} GB is too small for {needed} GB of device memory.",
        )


def window_gib(memory_mib: int) -> int:
    """The PCI memory window of a card in GiB: its memory, up to the next power of two."""
    gib = -(-memory_mib // _GIB_IN_MIB)
    return 1 << (gib - 1).bit_length()


def check_memory(machine: Any, host: Any) -> None:
    """Whether the host has the memory. Raises vim.fault.InsufficientMemoryResourcesFault."""
    config = machine.values["config"]
    reserved = config.memoryAllocation.reservation or 0 if config.memoryAllocation is not None else 0
    free = host.free_memory_mib()
    if reserved > free or config.hardware.memoryMB > host.memory_bytes >> 20:
        raise vim.fault.InsufficientMemoryResourcesFault(
            unreserved=free << 20,
            requested=reserved << 20,
            msg=f"The host {host.name} does not have sufficient memory resources to satisfy the reservation: "
            f"{reserved} MB are asked for, {free} MB are free.",
        )
