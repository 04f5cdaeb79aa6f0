"""Reads an OVF descriptor (DSP0243): files, disks, networks, properties, and the hardware of one virtual system."""

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from .api import vim
from .values import build, vary
from .virtual_machine_config import adapter_backing, scsi_controller

_OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
_RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
_VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"
_VMW = "{http://www.vmware.com/schema/ovf}"
_device: Any = vim.vm.device
_CPU, _MEMORY, _SCSI, _ETHERNET, _DISK, _SATA = "3", "4", "6", "10", "17", "20"
_ADAPTERS = {"vmxnet3": "VirtualVmxnet3", "e1000": "VirtualE1000", "e1000e": "VirtualE1000e"}


class DescriptorError(Exception):
    """The descriptor is not one that can be deployed; the text says why."""


@dataclass
class OvfDisk:
    """A disk: its size in bytes and the file that holds its content, if any."""

    capacity: int
    href: str | None
    size: int


@dataclass
class OvfSystem:
    """What a descriptor describes."""

    name: str = ""
    cpus: int = 1
    memory_mib: int = 512
    firmware: str = "bios"
    hardware: str = "vmx-13"
    guest_id: str = "otherLinux64Guest"
    annotation: str = ""
    disks: list[OvfDisk] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    adapters: list[tuple[str, str]] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)


def read_descriptor(text: str) -> OvfSystem:
    """Reads a descriptor. Raises DescriptorError."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DescriptorError("document type declarations are not accepted")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise DescriptorError(f"not well-formed XML: {error}") from None
    if root.tag != f"{_OVF}Envelope":
        raise DescriptorError("the root element is not an OVF 1 envelope")
    system = root.find(f"{_OVF}VirtualSystem")
    if system is None:
        raise DescriptorError("there is no VirtualSystem")
    made = OvfSystem(name=system.findtext(f"{_OVF}Name") or system.get(f"{_OVF}id") or "")
    made.networks = [str(each.get(f"{_OVF}name")) for each in root.findall(f"{_OVF}NetworkSection/{_OVF}Network")]
    guest = system.find(f"{_OVF}OperatingSystemSection")
    if guest is not None:
        made.guest_id = guest.get(f"{_VMW}osType") or made.guest_id
    for each in system.findall(f"{_OVF}ProductSection/{_OVF}Property"):
        made.properties[str(each.get(f"{_OVF}key"))] = each.get(f"{_OVF}value") or ""
    made.annotation = system.findtext(f"{_OVF}AnnotationSection/{_OVF}Annotation") or ""
    hardware = system.find(f"{_OVF}VirtualHardwareSection")
    if hardware is None:
        raise DescriptorError("there is no VirtualHardwareSection")
    _read_hardware(made, hardware, _disks(root))
    return made


def _disks(root: Any) -> dict[str, OvfDisk]:
    files = {
        each.get(f"{_OVF}id"): (each.get(f"{_OVF}href"), int(each.get(f"{_OVF}size") or 0))
        for each in root.findall(f"{_OVF}References/{_OVF}File")
    }
    found = {}
    for each in root.findall(f"{_OVF}DiskSection/{_OVF}Disk"):
        reference = each.get(f"{_OVF}fileRef")
        if reference is not None and reference not in files:
            raise DescriptorError(f"the disk {each.get(f'{_OVF}diskId')} refers to no file {reference}")
        href, size = files.get(reference, (None, 0))
        units = _units(each.get(f"{_OVF}capacityAllocationUnits") or "byte")
        found[str(each.get(f"{_OVF}diskId"))] = OvfDisk(int(each.get(f"{_OVF}capacity") or 0) * units, href, size)
    return found


def _units(text: str) -> int:
    """``byte * 2^30`` as a number."""
    base, _, power = text.replace(" ", "").partition("*2^")
    if base.lower() != "byte":
        raise DescriptorError(f"there is no unit {text}")
    return 1 << int(power or 0)


def _read_hardware(made: OvfSystem, section: Any, disks: dict[str, OvfDisk]) -> None:
    kinds = section.findtext(f"{_OVF}System/{_VSSD}VirtualSystemType") or ""
    versions = [each for each in kinds.split() if each.startswith("vmx-")]
    made.hardware = versions[-1] if versions else made.hardware
    for config in section.findall(f"{_VMW}Config"):
        if config.get(f"{_VMW}key") == "firmware":
            made.firmware = str(config.get(f"{_VMW}value"))
    for extra in section.findall(f"{_VMW}ExtraConfig"):
        made.extra[str(extra.get(f"{_VMW}key"))] = str(extra.get(f"{_VMW}value"))
    for item in section.findall(f"{_OVF}Item"):
        kind = item.findtext(f"{_RASD}ResourceType")
        quantity = int(item.findtext(f"{_RASD}VirtualQuantity") or 0)
        if kind == _CPU:
            made.cpus = quantity
        elif kind == _MEMORY:
            made.memory_mib = quantity * _units(item.findtext(f"{_RASD}AllocationUnits") or "byte * 2^20") >> 20
        elif kind == _DISK:
            name = (item.findtext(f"{_RASD}HostResource") or "").rpartition("/")[2]
            if name not in disks:
                raise DescriptorError(f"there is no disk {name}")
            made.disks.append(disks[name])
        elif kind == _ETHERNET:
            made.adapters.append(
                (
                    item.findtext(f"{_RASD}Connection") or "",
                    (item.findtext(f"{_RASD}ResourceSubType") or "vmxnet3").lower(),
                )
            )


def config_spec(system: OvfSystem, name: str, networks: dict[str, Any], store: Any) -> Any:
    """The ConfigSpec of a described system; ``networks`` maps its networks to simulated ones."""
    changes = [build(_device.VirtualDeviceSpec, operation="add", device=_fresh_controller())]
    for number, each in enumerate(system.disks):
        backing = build(
            _device.VirtualDisk.FlatVer2BackingInfo,
            fileName="",
            diskMode="persistent",
            thinProvisioned=True,
            datastore=store.ref,
        )
        device = build(
            _device.VirtualDisk,
            key=-200 - number,
            controllerKey=-100,
            unitNumber=number if number < 7 else number + 1,
            capacityInKB=each.capacity >> 10,
            backing=backing,
        )
        changes.append(build(_device.VirtualDeviceSpec, operation="add", fileOperation="create", device=device))
    for number, (connection, kind) in enumerate(system.adapters):
        network = networks.get(connection)
        if network is None:
            raise DescriptorError(f"the network {connection} is mapped to nothing")
        cls = getattr(_device, _ADAPTERS.get(kind, "VirtualVmxnet3"))
        device = build(cls, key=-300 - number, backing=adapter_backing(network), addressType="generated")
        changes.append(build(_device.VirtualDeviceSpec, operation="add", device=device))
    return build(
        vim.vm.ConfigSpec,
        name=name,
        version=system.hardware,
        guestId=system.guest_id,
        annotation=system.annotation or None,
        firmware=system.firmware,
        numCPUs=system.cpus,
        memoryMB=system.memory_mib,
        files=build(vim.vm.FileInfo, vmPathName=f"[{store.name}]"),
        extraConfig=[build(vim.option.OptionValue, key=key, value=value) for key, value in system.extra.items()],
        deviceChange=changes,
    )


def _fresh_controller() -> Any:
    return vary(scsi_controller(), key=-100, device=[], unitNumber=None)
