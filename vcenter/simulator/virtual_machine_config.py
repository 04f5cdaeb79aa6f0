"""The configuration of virtual machines: what a new one starts with, and how its standard devices look."""

import functools
import itertools
import uuid
from typing import Any

from .api import vim
from .environment_browser import guest_full_name
from .resource_pool import allocation
from .values import build, now, vary

PCI_CONTROLLER = 100
_macs = itertools.count(1)
_device: Any = vim.vm.device


def new_mac() -> str:
    """The next generated MAC address, from the range vCenter gives out."""
    number = next(_macs)
    return f"00:50:56:{0x80 | (number >> 16 & 0x3F):02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def describe(label: str, summary: str = "") -> Any:
    """A device's name in the client."""
    return build(vim.Description, label=label, summary=summary or label)


@functools.cache
def standard_devices() -> tuple[Any, ...]:
    """What every virtual machine has without asking."""

    def make(cls: Any, key: int, label: str, **values: Any) -> Any:
        return build(cls, key=key, deviceInfo=describe(label), **values)

    return (
        make(_device.VirtualIDEController, 200, "IDE 0", busNumber=0),
        make(_device.VirtualIDEController, 201, "IDE 1", busNumber=1),
        make(_device.VirtualPS2Controller, 300, "PS2 controller 0", busNumber=0, device=[600, 700]),
        make(_device.VirtualPCIController, PCI_CONTROLLER, "PCI controller 0", busNumber=0, device=[500, 12000]),
        make(_device.VirtualSIOController, 400, "SIO controller 0", busNumber=0),
        make(_device.VirtualKeyboard, 600, "Keyboard", controllerKey=300, unitNumber=0),
        make(
            _device.VirtualPointingDevice,
            700,
            "Pointing device",
            controllerKey=300,
            unitNumber=1,
            backing=build(
                _device.VirtualPointingDevice.DeviceBackingInfo,
                deviceName="",
                useAutoDetect=False,
                hostPointingDevice="autodetect",
            ),
        ),
        make(
            _device.VirtualVideoCard,
            500,
            "Video card",
            controllerKey=100,
            unitNumber=0,
            videoRamSizeInKB=4096,
            numDisplays=1,
            useAutoDetect=False,
            enable3DSupport=False,
        ),
        make(
            _device.VirtualVMCIDevice,
            12000,
            "VMCI device",
            controllerKey=100,
            unitNumber=17,
            id=-1,
            allowUnrestrictedCommunication=False,
        ),
    )


@functools.cache
def _template(cpus: int, memory_mib: int, firmware: str, hardware: int, guest_id: str) -> Any:
    return build(
        vim.vm.ConfigInfo,
        changeVersion="1",
        modified=now(),
        name="",
        guestFullName=guest_full_name(guest_id),
        version=f"vmx-{hardware:02d}",
        uuid="",
        template=False,
        guestId=guest_id,
        alternateGuestName="",
        annotation="",
        tools=build(
            vim.vm.ToolsConfigInfo,
            toolsVersion=12352,
            toolsInstallType="guestToolsTypeOpenVMTools",
            afterPowerOn=True,
            afterResume=True,
            beforeGuestStandby=True,
            beforeGuestShutdown=True,
            toolsUpgradePolicy="manual",
            syncTimeWithHost=False,
        ),
        flags=build(
            vim.vm.FlagInfo, enableLogging=True, snapshotDisabled=False, snapshotLocked=False, vvtdEnabled=False
        ),
        defaultPowerOps=build(
            vim.vm.DefaultPowerOpInfo,
            powerOffType="soft",
            suspendType="hard",
            resetType="soft",
            defaultPowerOffType="soft",
            defaultSuspendType="hard",
            defaultResetType="soft",
            standbyAction="checkpoint",
        ),
        hardware=build(
            vim.vm.VirtualHardware,
            numCPU=cpus,
            numCoresPerSocket=1,
            memoryMB=memory_mib,
            virtualICH7MPresent=False,
            virtualSMCPresent=False,
            device=list(standard_devices()),
        ),
        cpuAllocation=allocation(shares=cpus * 1000),
        memoryAllocation=allocation(shares=memory_mib * 10),
        memoryHotAddEnabled=False,
        cpuHotAddEnabled=False,
        cpuHotRemoveEnabled=False,
        extraConfig=[],
        bootOptions=build(
            vim.vm.BootOptions,
            bootDelay=0,
            enterBIOSSetup=False,
            efiSecureBootEnabled=False,
            bootRetryEnabled=False,
            bootRetryDelay=10_000,
        ),
        firmware=firmware,
        memoryReservationLockedToMax=False,
        nestedHVEnabled=False,
        vPMCEnabled=False,
        changeTrackingEnabled=False,
        maxMksConnections=-1,
        guestAutoLockEnabled=True,
        messageBusTunnelEnabled=False,
        swapPlacement="inherit",
        latencySensitivity=build(vim.LatencySensitivity, level="normal"),
    )


def new_config(
    name: str,
    *,
    cpus: int = 1,
    memory_mib: int = 32,
    firmware: str = "bios",
    hardware: int = 19,
    guest_id: str = "otherGuest",
) -> Any:
    """A ConfigInfo with standard devices only."""
    return vary(
        _template(cpus, memory_mib, firmware, hardware, guest_id),
        name=name,
        uuid=f"4215{str(uuid.uuid4())[4:]}",
        instanceUuid=f"5015{str(uuid.uuid4())[4:]}",
        createDate=now(),
    )


def disk(key: int, controller: int, unit: int, size: int, store: Any, path: str) -> Any:
    """A thin disk. ``size`` in bytes."""
    return build(
        _device.VirtualDisk,
        key=key,
        deviceInfo=describe(f"Hard disk {key - 1999}", f"{size >> 10:,} KB"),
        controllerKey=controller,
        unitNumber=unit,
        capacityInKB=size >> 10,
        capacityInBytes=size,
        backing=build(
            _device.VirtualDisk.FlatVer2BackingInfo,
            fileName=path,
            datastore=store.ref,
            diskMode="persistent",
            thinProvisioned=True,
            uuid=f"6000C29{str(uuid.uuid4())[7:]}",
        ),
    )


def scsi_controller(key: int = 1000, devices: tuple[int, ...] = (2000,)) -> Any:
    """A paravirtual SCSI controller."""
    return build(
        _device.ParaVirtualSCSIController,
        key=key,
        deviceInfo=describe(f"SCSI controller {key - 1000}", "VMware paravirtual SCSI"),
        controllerKey=PCI_CONTROLLER,
        unitNumber=3,
        busNumber=key - 1000,
        hotAddRemove=True,
        sharedBus="noSharing",
        scsiCtlrUnitNumber=7,
        device=list(devices),
    )


def adapter_backing(network: Any) -> Any:
    """The backing of a network adapter on a standard or distributed network."""
    if isinstance(network.ref, vim.dvs.DistributedVirtualPortgroup):
        return build(
            _device.VirtualEthernetCard.DistributedVirtualPortBackingInfo,
            port=build(vim.dvs.PortConnection, switchUuid=network.switch.uuid, portgroupKey=network.moid),
        )
    return build(
        _device.VirtualEthernetCard.NetworkBackingInfo,
        deviceName=network.name,
        useAutoDetect=False,
        network=network.ref,
    )


def adapter(key: int, unit: int, network: Any) -> Any:
    """A VMXNET3 adapter."""
    return build(
        _device.VirtualVmxnet3,
        key=key,
        deviceInfo=describe(f"Network adapter {key - 3999}", network.name),
        backing=adapter_backing(network),
        connectable=build(
            _device.VirtualDevice.ConnectInfo,
            startConnected=True,
            allowGuestControl=True,
            connected=False,
            status="untried",
        ),
        controllerKey=PCI_CONTROLLER,
        unitNumber=unit,
        addressType="assigned",
        macAddress=new_mac(),
        wakeOnLanEnabled=True,
        uptCompatibilityEnabled=True,
    )
