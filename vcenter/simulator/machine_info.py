"""com.vmware.vcenter.VM.Info: one virtual machine as the Automation API shows it."""

from typing import Any

from com.vmware import vcenter_client
from com.vmware.vcenter import vm_client
from com.vmware.vcenter.vm import hardware_client
from com.vmware.vcenter.vm.hardware import adapter_client

from .api import vim

_device: Any = vim.vm.device
_POWER = {"poweredOn": "POWERED_ON", "poweredOff": "POWERED_OFF", "suspended": "SUSPENDED"}
_SCSI = {
    "ParaVirtualSCSIController": "PVSCSI",
    "VirtualLsiLogicSASController": "LSILOGICSAS",
    "VirtualBusLogicController": "BUSLOGIC",
}
_ETHERNET = {"VirtualE1000": "E1000", "VirtualE1000e": "E1000E", "VirtualPCNet32": "PCNET32"}


def machine_info(machine: Any) -> Any:
    """Everything that VM.get answers about a machine; memory in MiB, disks in bytes."""
    config = machine.config
    hardware = config.hardware
    return vcenter_client.VM.Info(
        guest_os=_guest_os(config.guestId),
        name=machine.name,
        identity=vm_client.Identity.Info(name=machine.name, bios_uuid=config.uuid, instance_uuid=config.instanceUuid),
        power_state=_POWER[machine.power_state],
        instant_clone_frozen=False,
        hardware=vm_client.Hardware.Info(
            version=f"VMX_{config.version.removeprefix('vmx-')}", upgrade_policy="NEVER", upgrade_status="NONE"
        ),
        boot=_boot(config.firmware == "efi"),
        boot_devices=[],
        cpu=hardware_client.Cpu.Info(
            count=hardware.numCPU,
            cores_per_socket=hardware.numCoresPerSocket or 1,
            hot_add_enabled=bool(config.cpuHotAddEnabled),
            hot_remove_enabled=False,
        ),
        memory=hardware_client.Memory.Info(
            size_mib=hardware.memoryMB, hot_add_enabled=bool(config.memoryHotAddEnabled)
        ),
        disks={str(each.key): _disk(each, hardware.device) for each in _of(hardware.device, _device.VirtualDisk)},
        nics={str(each.key): _nic(machine.world, each) for each in _of(hardware.device, _device.VirtualEthernetCard)},
        cdroms={},
        floppies={},
        parallel_ports={},
        serial_ports={},
        sata_adapters={},
        scsi_adapters={
            str(each.key): adapter_client.Scsi.Info(
                label=each.deviceInfo.label if each.deviceInfo else f"SCSI controller {each.busNumber}",
                type=_SCSI.get(_name(each), "LSILOGIC"),
                scsi=hardware_client.ScsiAddressInfo(bus=each.busNumber, unit=7),
                sharing="NONE",
            )
            for each in _of(hardware.device, _device.VirtualSCSIController)
        },
        nvme_adapters={},
    )


def _boot(efi: bool) -> Any:
    more: dict[str, Any] = {"efi_legacy_boot": False, "network_protocol": "IPV4"} if efi else {}
    return hardware_client.Boot.Info(
        type="EFI" if efi else "BIOS", delay=0, retry=False, retry_delay=10000, enter_setup_mode=False, **more
    )


def _of(devices: Any, kind: Any) -> list[Any]:
    return [each for each in devices if isinstance(each, kind)]


def _name(device: Any) -> str:
    return type(device).__name__.rpartition(".")[2]


def _guest_os(guest_id: str | None) -> str:
    """``ubuntu64Guest`` → ``UBUNTU_64``; what the enumeration does not know is OTHER_64."""
    name = (guest_id or "").removesuffix("Guest").replace("64", "_64").upper()
    return name if hasattr(vm_client.GuestOS, name) else "OTHER_64"


def _disk(disk: Any, devices: Any) -> Any:
    controller = next((each for each in devices if each.key == disk.controllerKey), None)
    return hardware_client.Disk.Info(
        label=disk.deviceInfo.label if disk.deviceInfo else "Hard disk",
        type="SCSI",
        scsi=hardware_client.ScsiAddressInfo(bus=getattr(controller, "busNumber", 0), unit=disk.unitNumber or 0),
        backing=hardware_client.Disk.BackingInfo(type="VMDK_FILE", vmdk_file=disk.backing.fileName),
        capacity=disk.capacityInBytes,
    )


def _nic(world: Any, card: Any) -> Any:
    backing = card.backing
    port = getattr(backing, "port", None)
    if port is not None:
        shown = hardware_client.Ethernet.BackingInfo(
            type="DISTRIBUTED_PORTGROUP", network=port.portgroupKey, distributed_switch_uuid=port.switchUuid
        )
    else:
        network = getattr(backing, "network", None)
        shown = hardware_client.Ethernet.BackingInfo(
            type="STANDARD_PORTGROUP",
            network=network._moId if network else None,
            network_name=getattr(backing, "deviceName", None),
        )
    connect = card.connectable
    kind = _ETHERNET.get(_name(card), "VMXNET3")
    more = {"upt_compatibility_enabled": False, "upt_v2_compatibility_enabled": False} if kind == "VMXNET3" else {}
    return hardware_client.Ethernet.Info(
        label=card.deviceInfo.label if card.deviceInfo else "Network adapter",
        type=kind,
        **more,
        mac_type="ASSIGNED" if card.addressType == "assigned" else "GENERATED",
        mac_address=card.macAddress,
        wake_on_lan_enabled=bool(card.wakeOnLanEnabled),
        backing=shown,
        state="CONNECTED" if connect and connect.connected else "NOT_CONNECTED",
        start_connected=bool(connect and connect.startConnected),
        allow_guest_control=bool(connect and connect.allowGuestControl),
    )
