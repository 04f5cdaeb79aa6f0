"""PCI identities as vSphere gives them: signed shorts made unsigned, ids as text, device classes, addresses.

vSphere's SOAP types carry vendor, device and class ids as **signed** shorts, so every id above 0x7fff arrives negative;
a passthrough backing wants the device id as lower-case hex text, an allowed-device entry as an unsigned integer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NVIDIA = 0x10DE
CLASS_VGA = 0x0300
CLASS_3D = 0x0302
_ADDRESS = re.compile(r"^(?:[0-9a-f]{4,5}:)?[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$", re.IGNORECASE)
_INSIDE = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)


def unsigned(value: int) -> int:
    """A PCI id (16 bits) from vSphere's signed short."""
    return value & 0xFFFF


def signed(value: int) -> int:
    """A PCI id as vSphere's signed short wants it (the inverse of `unsigned`)."""
    value &= 0xFFFF
    return value - 0x10000 if value > 0x7FFF else value


def id_text(value: int) -> str:
    """The text that `VirtualPCIPassthrough.DeviceBackingInfo.deviceId` takes: lower-case hex, no 0x, no padding."""
    return f"{value & 0xFFFF:x}"


def is_gpu(vendor_id: int, class_id: int) -> bool:
    """Whether a function is an NVIDIA display controller (VGA or 3D). Audio, USB and NVSwitch functions are not."""
    return unsigned(vendor_id) == NVIDIA and unsigned(class_id) in (CLASS_VGA, CLASS_3D)


def is_address(text: str) -> bool:
    """Whether `text` is a PCI address as ESXi writes it: `0000:3b:00.0`."""
    return bool(_ADDRESS.match(text))


def address_in(text: str) -> str:
    """The PCI address inside an id of assignable hardware (vSphere does not document its form), or ""."""
    found = _INSIDE.search(text)
    return found[0].lower() if found else ""


def slot(address: str) -> str:
    """The address without its function: all functions of one device share it. `0000:3b:00.1` -> `0000:3b:00`."""
    return address.rpartition(".")[0]


@dataclass(frozen=True, order=True)
class PciFunction:
    """One function of a device on a host. Ids are unsigned."""

    address: str
    class_id: int
    vendor_id: int
    device_id: int
    sub_vendor_id: int
    sub_device_id: int
    vendor_name: str = ""
    device_name: str = ""
    bridge: str = ""

    @property
    def is_gpu(self) -> bool:
        return is_gpu(self.vendor_id, self.class_id)

    @property
    def identity(self) -> str:
        """`10de:20b5`, as lspci writes it."""
        return f"{self.vendor_id:04x}:{self.device_id:04x}"
