"""NVIDIA GPUs by PCI id: product name and framebuffer size.

vSphere tells a card's memory only while the host's own driver holds the card (`config.graphicsInfo`); once it is passed
through, the size is gone, and the MMIO window (vcenter/mmio.py) and the memory advice need it. Names and ids follow
NVIDIA's published lists of supported chips (driver README, appendix A; pci.ids); sizes are the products' nominal
memory per GPU: a board with several GPUs (K80, M60, A16) shows each one as a device of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcenter.pci import NVIDIA, unsigned


@dataclass(frozen=True)
class GpuModel:
    """`memory_mib` is the framebuffer of one GPU; `data_centre` tells server cards from workstation cards."""

    name: str
    memory_mib: int
    data_centre: bool = True

    @property
    def bar_mib(self) -> int:
        """The largest BAR the GPU may ask for: its framebuffer, up to a power of two (PCI BARs are powers of two)."""
        return 1 << (self.memory_mib - 1).bit_length()


# An unknown NVIDIA display device is sized like the largest GPU that fits one device today (B300, 288 GB): too large
# a window costs guest-physical address space only; too small a window keeps the machine from starting.
UNKNOWN_MEMORY_MIB = 288 * 1024

_DATA_CENTRE: tuple[tuple[int, str, int], ...] = (
    # Kepler
    (0x0FF2, "GRID K1", 4),
    (0x11BF, "GRID K2", 4),
    (0x118F, "Tesla K10", 4),
    (0x1020, "Tesla K20X", 6),
    (0x1021, "Tesla K20Xm", 6),
    (0x1022, "Tesla K20c", 5),
    (0x1026, "Tesla K20s", 5),
    (0x1028, "Tesla K20m", 5),
    (0x1023, "Tesla K40m", 12),
    (0x1024, "Tesla K40c", 12),
    (0x1027, "Tesla K40st", 12),
    (0x1029, "Tesla K40s", 12),
    (0x102A, "Tesla K40t", 12),
    (0x102E, "Tesla K40d", 12),
    (0x102D, "Tesla K80", 12),
    # Maxwell
    (0x13BD, "Tesla M10", 8),
    (0x13F2, "Tesla M60", 8),
    (0x13F3, "Tesla M6", 8),
    (0x1431, "Tesla M4", 4),
    (0x17FD, "Tesla M40", 24),
    # Pascal
    (0x15F7, "Tesla P100 PCIe 12GB", 12),
    (0x15F8, "Tesla P100 PCIe 16GB", 16),
    (0x15F9, "Tesla P100 SXM2 16GB", 16),
    (0x1B38, "Tesla P40", 24),
    (0x1BB3, "Tesla P4", 8),
    (0x1BB4, "Tesla P6", 16),
    # Volta
    (0x1DB1, "Tesla V100 SXM2 16GB", 16),
    (0x1DB2, "Tesla V100 DGXS 16GB", 16),
    (0x1DB3, "Tesla V100 FHHL 16GB", 16),
    (0x1DB4, "Tesla V100 PCIe 16GB", 16),
    (0x1DB5, "Tesla V100 SXM2 32GB", 32),
    (0x1DB6, "Tesla V100 PCIe 32GB", 32),
    (0x1DB7, "Tesla V100 DGXS 32GB", 32),
    (0x1DB8, "Tesla V100 SXM3 32GB", 32),
    (0x1DF5, "Tesla V100 SXM2 16GB", 16),
    (0x1DF6, "Tesla V100S PCIe 32GB", 32),
    # Turing
    (0x1E37, "Tesla T10", 16),
    (0x1E38, "Tesla T40 24GB", 24),
    (0x1EB8, "Tesla T4", 16),
    # Ampere
    (0x20B0, "A100 SXM4 40GB", 40),
    (0x20B1, "A100 PCIe 40GB", 40),
    (0x20B2, "A100 SXM4 80GB", 80),
    (0x20B3, "A100 SXM 64GB", 64),
    (0x20B5, "A100 PCIe 80GB", 80),
    (0x20B7, "A30", 24),
    (0x20B8, "A100X", 80),
    (0x20B9, "A30X", 24),
    (0x20BD, "A800 SXM4 40GB", 40),
    (0x20F1, "A100 PCIe 40GB", 40),
    (0x20F3, "A800 SXM4 80GB", 80),
    (0x20F5, "A800 PCIe 80GB", 80),
    (0x20F6, "A800 40GB Active", 40),
    (0x2235, "A40", 48),
    (0x2236, "A10", 24),
    (0x2237, "A10G", 24),
    (0x2238, "A10M", 20),
    (0x25B6, "A2 / A16", 16),
    # Ada
    (0x26B5, "L40", 48),
    (0x26B8, "L40G", 24),
    (0x26B9, "L40S", 48),
    (0x26BA, "L20", 48),
    (0x27B6, "L2", 24),
    (0x27B8, "L4", 24),
    # Hopper
    (0x2313, "H100 CNX", 80),
    (0x2321, "H100 NVL", 94),
    (0x2322, "H800 PCIe", 80),
    (0x2324, "H800 SXM5 80GB", 80),
    (0x2329, "H20", 96),
    (0x232C, "H20-3e", 141),
    (0x2330, "H100 SXM5 80GB", 80),
    (0x2331, "H100 PCIe", 80),
    (0x2335, "H200 SXM 141GB", 141),
    (0x2339, "H100 SXM5 64GB", 64),
    (0x233A, "H800 NVL", 94),
    (0x233B, "H200 NVL", 141),
    (0x2342, "GH200", 96),
    # Blackwell
    (0x2901, "B200", 192),
    (0x2941, "GB200", 192),
    (0x3182, "B300", 288),
    (0x2BB5, "RTX PRO 6000 Blackwell Server Edition", 96),
)

_WORKSTATION: tuple[tuple[int, str, int], ...] = (
    (0x15F0, "Quadro GP100", 16),
    (0x1B30, "Quadro P6000", 24),
    (0x1BB0, "Quadro P5000", 16),
    (0x1BB1, "Quadro P4000", 8),
    (0x1DBA, "Quadro GV100", 32),
    (0x1E30, "Quadro RTX 6000/8000", 48),
    (0x1E78, "Quadro RTX 6000/8000 Passive", 48),
    (0x1EB0, "Quadro RTX 5000", 16),
    (0x1EB1, "Quadro RTX 4000", 8),
    (0x2230, "RTX A6000", 48),
    (0x2231, "RTX A5000", 24),
    (0x2232, "RTX A4500", 20),
    (0x2233, "RTX A5500", 24),
    (0x24B0, "RTX A4000", 16),
    (0x2531, "RTX A2000", 6),
    (0x2571, "RTX A2000 12GB", 12),
    (0x26B1, "RTX 6000 Ada Generation", 48),
    (0x26B2, "RTX 5000 Ada Generation", 32),
    (0x26B3, "RTX 5880 Ada Generation", 48),
    (0x27B0, "RTX 4000 SFF Ada Generation", 20),
    (0x27B1, "RTX 4500 Ada Generation", 24),
    (0x27B2, "RTX 4000 Ada Generation", 20),
    (0x2BB1, "RTX PRO 6000 Blackwell Workstation Edition", 96),
    (0x2BB3, "RTX PRO 5000 Blackwell", 48),
    (0x2BB4, "RTX PRO 6000 Blackwell Max-Q", 96),
    (0x2C31, "RTX PRO 4500 Blackwell", 32),
    (0x2C34, "RTX PRO 4000 Blackwell", 24),
)

# Boards that share a device id with another product and differ in the subsystem id.
_BY_SUBSYSTEM: dict[tuple[int, int], GpuModel] = {
    (0x17FD, 0x1173): GpuModel("Tesla M40 24GB", 24 * 1024),
    (0x17FD, 0x1171): GpuModel("Tesla M40", 12 * 1024),
    (0x1E30, 0x12BA): GpuModel("Quadro RTX 6000", 24 * 1024, data_centre=False),
    (0x1E30, 0x129E): GpuModel("Quadro RTX 8000", 48 * 1024, data_centre=False),
    (0x1E78, 0x13D8): GpuModel("Quadro RTX 8000 Passive", 48 * 1024),
    (0x1E78, 0x13D9): GpuModel("Quadro RTX 6000 Passive", 24 * 1024),
    (0x25B6, 0x14A9): GpuModel("A16", 16 * 1024),
    (0x25B6, 0x157E): GpuModel("A2", 16 * 1024),
}

_BY_DEVICE: dict[int, GpuModel] = {
    **{device: GpuModel(name, gib * 1024) for device, name, gib in _DATA_CENTRE},
    **{device: GpuModel(name, gib * 1024, data_centre=False) for device, name, gib in _WORKSTATION},
}


def find(vendor_id: int, device_id: int, sub_device_id: int = 0) -> GpuModel | None:
    """The model of a PCI device, ids signed or unsigned; None when the catalogue does not know it."""
    if unsigned(vendor_id) != NVIDIA:
        return None
    device = unsigned(device_id)
    return _BY_SUBSYSTEM.get((device, unsigned(sub_device_id))) or _BY_DEVICE.get(device)


def known() -> dict[int, GpuModel]:
    """Every model by device id (a copy), for listings."""
    return dict(_BY_DEVICE)


def memory_mib(
    vendor_id: int, device_id: int, sub_device_id: int = 0, reported_mib: int = 0, override_mib: int = 0
) -> int:
    """Framebuffer to reckon with, in MiB: an override, else what the host reports, else the catalogue, else the safe
    rule.
    """
    if override_mib > 0:
        return override_mib
    if reported_mib > 0:
        return reported_mib
    model = find(vendor_id, device_id, sub_device_id)
    return model.memory_mib if model else UNKNOWN_MEMORY_MIB
