"""Models of PCI cards that simulated hosts may hold: NVIDIA GPUs and RDMA network cards, by PCI ids.

Ids are those of the PCI ID repository; sizes are the makers' data sheets'. A card may have more functions than one
(display adapters bring audio): vSphere passes the functions of a card through together.
"""

from dataclasses import dataclass
from typing import Any

from .api import vim
from .values import build

NVIDIA = 0x10DE
MELLANOX = 0x15B3
DISPLAY_3D = 0x0302
DISPLAY_VGA = 0x0300
AUDIO = 0x0403
ETHERNET = 0x0200
BRIDGE = 0x0680

_VENDORS = {NVIDIA: "NVIDIA Corporation", MELLANOX: "Mellanox Technologies", 0x8086: "Intel Corporation"}
_CLASSES = {
    DISPLAY_3D: "3D controller",
    DISPLAY_VGA: "VGA compatible controller",
    AUDIO: "Audio device",
    ETHERNET: "Ethernet controller",
    BRIDGE: "Bridge",
    0x0600: "Host bridge",
    0x0604: "PCI bridge",
    0x0106: "SATA controller",
    0x0C03: "USB controller",
}


@dataclass(frozen=True)
class Function:
    """One PCI function of a card."""

    device_id: int
    class_id: int
    name: str
    vendor_id: int = NVIDIA
    sub_device_id: int = 0x1000


@dataclass(frozen=True)
class GpuModel:
    """A GPU: its functions, the first of which is the GPU itself, and its memory in MiB."""

    name: str
    memory_mib: int
    functions: tuple[Function, ...]


def _gpu(
    name: str, device_id: int, chip: str, memory_gib: int, sub: int = 0x1000, audio: int | None = None
) -> GpuModel:
    first = Function(device_id, DISPLAY_3D if audio is None else DISPLAY_VGA, f"{chip} [{name}]", sub_device_id=sub)
    if audio is None:
        return GpuModel(name, memory_gib << 10, (first,))
    sound = Function(audio, AUDIO, f"{chip.removesuffix('GL')} High Definition Audio Controller")
    return GpuModel(name, memory_gib << 10, (first, sound))


GPUS = {
    model.name: model
    for model in (
        _gpu("P4", 0x1BB3, "GP104GL", 8, 0x11D8),
        _gpu("P40", 0x1B38, "GP102GL", 24, 0x11D9),
        _gpu("V100-PCIE-16GB", 0x1DB4, "GV100GL", 16, 0x1214),
        _gpu("V100-PCIE-32GB", 0x1DB6, "GV100GL", 32, 0x124A),
        _gpu("T4", 0x1EB8, "TU104GL", 16, 0x12A2),
        _gpu("A2", 0x25B6, "GA107GL", 16, 0x157E),
        _gpu("A10", 0x2236, "GA102GL", 24, 0x1482),
        _gpu("A30", 0x20B7, "GA100GL", 24, 0x1532),
        _gpu("A40", 0x2235, "GA102GL", 48, 0x145A),
        _gpu("A100-PCIE-40GB", 0x20F1, "GA100", 40, 0x145F),
        _gpu("A100-PCIE-80GB", 0x20B5, "GA100", 80, 0x1533),
        _gpu("A100-SXM4-80GB", 0x20B2, "GA100", 80, 0x1463),
        _gpu("L4", 0x27B8, "AD104GL", 24, 0x16CA),
        _gpu("L40S", 0x26B9, "AD102GL", 48, 0x1851),
        _gpu("H100-PCIE-80GB", 0x2331, "GH100", 80, 0x1626),
        _gpu("H100-SXM5-80GB", 0x2330, "GH100", 80, 0x16C0),
        _gpu("H200-SXM5-141GB", 0x2335, "GH100", 141, 0x18BE),
        _gpu("RTX-6000-Ada", 0x26B1, "AD102GL", 48, 0x16A1, audio=0x22BA),
        _gpu("RTX-A6000", 0x2230, "GA102GL", 48, 0x1459, audio=0x1AEF),
        _gpu("RTX-6000-Turing", 0x1E30, "TU102GL", 24, 0x12BA, audio=0x10F7),
    )
}


@dataclass(frozen=True)
class NicModel:
    """A network card: its PCI ids, speed in Mbit/s, drivers, and which RoCE versions it speaks (none: no RDMA)."""

    name: str
    vendor_id: int
    device_id: int
    speed: int
    driver: str
    rdma_driver: str | None
    roce_v1: bool = False
    roce_v2: bool = True


NICS = {
    model.name: model
    for model in (
        NicModel("ConnectX-3", MELLANOX, 0x1003, 40_000, "nmlx4_en", "nmlx4_rdma", roce_v1=True, roce_v2=False),
        NicModel("ConnectX-4", MELLANOX, 0x1013, 100_000, "nmlx5_core", "nmlx5_rdma", roce_v1=True),
        NicModel("ConnectX-5", MELLANOX, 0x1017, 100_000, "nmlx5_core", "nmlx5_rdma", roce_v1=True),
        NicModel("ConnectX-6-Dx", MELLANOX, 0x101D, 100_000, "nmlx5_core", "nmlx5_rdma"),
        NicModel("ConnectX-7", MELLANOX, 0x1021, 400_000, "nmlx5_core", "nmlx5_rdma"),
        NicModel("X710", 0x8086, 0x1572, 10_000, "i40en", None),
    )
}


def signed(value: int, bits: int = 16) -> int:
    """An unsigned number as SOAP's signed ``short`` or ``byte`` carries it: ids above 0x7fff arrive negative."""
    return value - (1 << bits) if value >> (bits - 1) else value


def address(domain: int, bus: int, slot: int, function: int) -> str:
    """A PCI address as vSphere spells it."""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def pci_device(bus: int, slot: int, number: int, function: Function, bridge: str | None = None) -> Any:
    """One entry of ``hardware.pciDevice``."""
    return build(
        vim.host.PciDevice,
        id=address(0, bus, slot, number),
        classId=signed(function.class_id),
        bus=signed(bus, 8),
        slot=slot,
        function=number,
        vendorId=signed(function.vendor_id),
        subVendorId=signed(function.vendor_id),
        vendorName=_VENDORS.get(function.vendor_id, "Unknown"),
        deviceId=signed(function.device_id),
        subDeviceId=signed(function.sub_device_id),
        parentBridge=bridge,
        deviceName=function.name,
        deviceClassName=_CLASSES.get(function.class_id, "Unknown"),
    )


# What every server board has besides its cards: none of it can be passed through.
BOARD = (
    Function(0x2020, 0x0600, "Sky Lake-E DMI3 Registers", vendor_id=0x8086),
    Function(0x2030, 0x0604, "Sky Lake-E PCI Express Root Port A", vendor_id=0x8086),
    Function(0xA182, 0x0106, "C620 Series SATA Controller [AHCI mode]", vendor_id=0x8086),
    Function(0xA1AF, 0x0C03, "C620 Series USB 3.0 xHCI Controller", vendor_id=0x8086),
)
