"""From a ConfigSpec to a ConfigInfo: how CreateVM, CloneVM and ReconfigVM change a configuration."""

from typing import TYPE_CHECKING, Any

from .api import vim
from .environment_browser import NEWEST_HARDWARE, guest_full_name
from .managed_object import invalid_argument
from .resource_pool import allocation
from .values import is_set, now, overlay, vary
from .virtual_machine_devices import DeviceChanges

if TYPE_CHECKING:
    from .world import World

# Fields that go from the specification to the configuration as they are; the second list only while powered off.
_ANY_TIME = ("annotation", "managedBy", "swapPlacement", "maxMksConnections", "latencySensitivity", "npivOnNonRdmDisks")
_WHEN_OFF = (
    "guestId",
    "alternateGuestName",
    "firmware",
    "cpuHotAddEnabled",
    "cpuHotRemoveEnabled",
    "memoryHotAddEnabled",
    "nestedHVEnabled",
    "vPMCEnabled",
    "changeTrackingEnabled",
    "messageBusTunnelEnabled",
    "uuid",
    "instanceUuid",
    "fixedPassthruHotPlugEnabled",
    "sevEnabled",
    "guestAutoLockEnabled",
    "vmxStatsCollectionEnabled",
)
_MERGED = ("bootOptions", "flags", "tools")
_POWER_OPS = ("powerOffType", "suspendType", "resetType", "standbyAction")

# What changing a field needs, apart from devices and extraConfig.
_PRIVILEGES = {
    "name": "VirtualMachine.Config.Rename",
    "annotation": "VirtualMachine.Config.Annotation",
    "numCPUs": "VirtualMachine.Config.CPUCount",
    "numCoresPerSocket": "VirtualMachine.Config.CPUCount",
    "cpuHotAddEnabled": "VirtualMachine.Config.CPUCount",
    "memoryMB": "VirtualMachine.Config.Memory",
    "memoryHotAddEnabled": "VirtualMachine.Config.Memory",
    "memoryReservationLockedToMax": "VirtualMachine.Config.Resource",
    "cpuAllocation": "VirtualMachine.Config.Resource",
    "memoryAllocation": "VirtualMachine.Config.Resource",
    "latencySensitivity": "VirtualMachine.Config.Resource",
    "firmware": "VirtualMachine.Config.Settings",
    "guestId": "VirtualMachine.Config.Settings",
    "bootOptions": "VirtualMachine.Config.Settings",
    "flags": "VirtualMachine.Config.Settings",
    "tools": "VirtualMachine.Config.Settings",
    "nestedHVEnabled": "VirtualMachine.Config.Settings",
    "extraConfig": "VirtualMachine.Config.AdvancedConfig",
    "version": "VirtualMachine.Config.UpgradeVirtualHardware",
}


def needed_privileges(spec: Any) -> list[str]:
    """The privileges on the virtual machine that a ConfigSpec needs."""
    needed = [privilege for name, privilege in _PRIVILEGES.items() if is_set(getattr(spec, name))]
    for change in spec.deviceChange:
        device = change.device
        if isinstance(device, vim.vm.device.VirtualDisk):
            if change.operation == "remove":
                needed.append("VirtualMachine.Config.RemoveDisk")
            elif change.operation == "add":
                kind = "AddNewDisk" if change.fileOperation else "AddExistingDisk"
                needed.append(f"VirtualMachine.Config.{kind}")
            else:
                needed.append("VirtualMachine.Config.DiskExtend")
        elif change.operation == "edit":
            needed.append("VirtualMachine.Config.EditDevice")
        else:
            needed.append("VirtualMachine.Config.AddRemoveDevice")
        if isinstance(device, vim.vm.device.VirtualPCIPassthrough):
            needed.append("VirtualMachine.Config.HostUSBDevice")
    return list(dict.fromkeys(needed))


def hardware_version(config: Any) -> int:
    """The number in ``vmx-19``."""
    return int(config.version.removeprefix("vmx-"))


class Applied:
    """A new configuration, with the disk files that come and go with it."""

    def __init__(self, config: Any, new_files: list[Any], gone_files: list[Any]) -> None:
        self.config = config
        self.new_files = new_files
        self.gone_files = gone_files

    def take_files(self) -> None:
        """Allocates the new files, all or none. Raises vim.fault.NoDiskSpace."""
        done: list[tuple[Any, str]] = []
        try:
            for store, path, size in self.new_files:
                store.allocate(path, size)
                done.append((store, path))
        except vim.fault.NoDiskSpace:
            for store, path in done:
                store.release(path)
            raise

    def drop_new_files(self) -> None:
        """Gives the new files back, when what they were for has failed."""
        for store, path, _ in self.new_files:
            store.release(path)

    def drop_gone_files(self) -> None:
        """Deletes the files of removed disks."""
        for store, path in self.gone_files:
            store.release(path)


def apply_spec(
    world: "World",
    config: Any,
    spec: Any,
    *,
    host: Any,
    power_state: str,
    directory: str,
    store: Any,
    creating: bool = False,
) -> Applied:
    """The configuration after ``spec``. Raises vSphere's faults; ``config`` stays as it was."""
    on = power_state != "poweredOff"
    if spec.changeVersion and spec.changeVersion != config.changeVersion:
        raise vim.fault.ConcurrentAccess(msg="The virtual machine has been changed by someone else.")
    changed = overlay(config, spec, _ANY_TIME)
    if on:
        _demand_unchanged_while_on(config, spec)
    changed = overlay(changed, spec, _WHEN_OFF)
    if is_set(spec.firmware) and spec.firmware not in {"bios", "efi"}:
        raise invalid_argument("configSpec.firmware", f"There is no firmware {spec.firmware}.")
    if is_set(spec.guestId):
        changed = vary(changed, guestFullName=guest_full_name(spec.guestId))
    if is_set(spec.version):
        changed = vary(changed, version=_version(world, config, spec.version, creating, host))
    for name in _MERGED:
        given = getattr(spec, name)
        if given is not None:
            known = getattr(changed, name)
            fields = tuple(each for each in given.__dict__ if is_set(given.__dict__[each]))
            changed = vary(changed, **{name: overlay(known, given, fields) if known is not None else given})
    if spec.powerOpInfo is not None:
        changed = vary(changed, defaultPowerOps=overlay(changed.defaultPowerOps, spec.powerOpInfo, _POWER_OPS))
    changed = _sized(changed, spec, on, host)
    if spec.extraConfig:
        changed = vary(changed, extraConfig=merge_extra(changed.extraConfig, spec.extraConfig))
    devices = DeviceChanges(
        world,
        changed,
        version=hardware_version(changed),
        host=host,
        power_state=power_state,
        directory=directory,
        store=store,
    )
    devices.apply(spec.deviceChange)
    if spec.deviceChange:
        changed = vary(changed, hardware=vary(changed.hardware, device=devices.devices))
    changed = vary(changed, modified=now(), changeVersion=now().isoformat())
    if is_set(spec.name):
        changed = vary(changed, name=spec.name)
    return Applied(changed, devices.new_files, devices.gone_files)


def merge_extra(held: Any, given: Any) -> list[Any]:
    """extraConfig after a change: an empty value removes its key."""
    merged = {each.key: each for each in held}
    for each in given:
        if each.value in ("", None):
            merged.pop(each.key, None)
        else:
            merged[each.key] = each
    return list(merged.values())


def _demand_unchanged_while_on(config: Any, spec: Any) -> None:
    for name in _WHEN_OFF:
        given = getattr(spec, name)
        if is_set(given) and given != getattr(config, name):
            raise vim.fault.InvalidPowerState(
                requestedState="poweredOff",
                existingState="poweredOn",
                msg="The attempted operation cannot be performed in the current state (Powered on): "
                f"{name} can be changed only while powered off.",
            )


def _version(world: "World", config: Any, asked: str, creating: bool, host: Any) -> str:
    newest = NEWEST_HARDWARE[world.api_version[0]]
    number = int(asked.removeprefix("vmx-")) if asked.removeprefix("vmx-").isdigit() else 0
    if not 4 <= number <= newest:
        raise vim.fault.VirtualHardwareVersionNotSupported(
            hostName=host.name,
            host=host.ref,
            msg=f"{host.name} runs hardware versions up to vmx-{newest:02d}, not {asked}.",
        )
    if not creating and number != hardware_version(config):
        raise invalid_argument("configSpec.version", "UpgradeVM_Task changes the version of an existing machine.")
    return f"vmx-{number:02d}"


def _sized(config: Any, spec: Any, on: bool, host: Any) -> Any:
    hardware = config.hardware
    if spec.numCPUs is not None and spec.numCPUs != hardware.numCPU:
        if on and (not config.cpuHotAddEnabled or spec.numCPUs < hardware.numCPU):
            raise vim.fault.CpuHotPlugNotSupported(msg="CPU hot plug is not supported for this virtual machine.")
        if spec.numCPUs < 1:
            raise invalid_argument("configSpec.numCPUs", "It must be positive.")
        if spec.numCPUs > host.cpu_cores * 2:
            raise vim.fault.NotEnoughCpus(
                numCpuDest=host.cpu_cores * 2,
                numCpuVm=spec.numCPUs,
                msg=f"{host.name} has {host.cpu_cores * 2} logical processors.",
            )
        hardware = vary(hardware, numCPU=spec.numCPUs)
    if spec.numCoresPerSocket:
        hardware = vary(hardware, numCoresPerSocket=spec.numCoresPerSocket)
    if spec.memoryMB is not None and spec.memoryMB != hardware.memoryMB:
        if on and (not config.memoryHotAddEnabled or spec.memoryMB < hardware.memoryMB):
            raise vim.fault.MemoryHotPlugNotSupported(msg="Memory hot plug is not supported for this virtual machine.")
        if spec.memoryMB < 4 or spec.memoryMB % 4:
            raise vim.fault.MemorySizeNotSupported(
                memorySizeMB=spec.memoryMB,
                minMemorySizeMB=4,
                maxMemorySizeMB=25_149_440,
                msg="The memory size must be a multiple of 4 MB.",
            )
        hardware = vary(hardware, memoryMB=spec.memoryMB)
    changes: dict[str, Any] = {"hardware": hardware}
    for name in ("cpuAllocation", "memoryAllocation"):
        given = getattr(spec, name)
        if given is not None:
            fields = ("reservation", "expandableReservation", "limit", "shares")
            changes[name] = overlay(getattr(config, name) or allocation(), given, fields)
    locked = spec.memoryReservationLockedToMax
    if locked is None:
        locked = config.memoryReservationLockedToMax
    memory = changes.get("memoryAllocation", config.memoryAllocation)
    if locked:
        memory = vary(memory, reservation=hardware.memoryMB)
    elif (memory.reservation or 0) > hardware.memoryMB:
        raise invalid_argument("configSpec.memoryAllocation.reservation", "The reservation is larger than the memory.")
    changes.update(memoryReservationLockedToMax=locked, memoryAllocation=memory)
    return vary(config, **changes)
