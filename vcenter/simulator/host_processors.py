"""A simulated host's processors: packages, threads, NUMA nodes and what CPUID says (HostHardwareInfo)."""

from typing import Any

from .api import vim
from .values import build

MODEL = "Intel(R) Xeon(R) Gold 6348 CPU @ 2.60GHz"
VENDOR = "GenuineIntel"
PACKAGES = 2
# CPUID leaf → (eax, ebx, ecx, edx): the vendor, the model with its features, long mode and no-execute, address widths.
_CPUID = {
    0x0000_0000: (0x0000_001B, 0x756E_6547, 0x6C65_746E, 0x4965_6E69),
    0x0000_0001: (0x0006_06A6, 0x0040_0800, 0xFEDA_3203, 0x1FAB_FBFF),
    0x8000_0000: (0x8000_0008, 0, 0, 0),
    0x8000_0001: (0, 0, 0x0000_0121, 0x2C10_0800),
    0x8000_0008: (0x0000_3934, 0x0000_0200, 0, 0),
}


def _register(value: int) -> str:
    """32 bits as vSphere writes them: nibbles, highest first, with colons between."""
    return ":".join(f"{value >> shift & 15:04b}" for shift in range(28, -1, -4))


def features() -> list[Any]:
    """``hardware.cpuFeature``; a level above 2^31 is negative, for the API's field is a signed int."""
    return [
        build(
            vim.host.CpuIdInfo,
            level=leaf - (1 << 32) if leaf >> 31 else leaf,
            **dict(zip(("eax", "ebx", "ecx", "edx"), map(_register, registers), strict=True)),
        )
        for leaf, registers in _CPUID.items()
    ]


def _threads(package: int, cores: int) -> list[int]:
    """The numbers of a package's threads; the two threads of a core follow each other."""
    per_package = cores // PACKAGES * 2
    return list(range(package * per_package, (package + 1) * per_package))


def packages(cores: int, mhz: int) -> list[Any]:
    """``hardware.cpuPkg`` for a host with so many cores in all."""
    return [
        build(
            vim.host.CpuPackage,
            index=index,
            vendor="intel",
            hz=mhz * 1_000_000,
            busHz=100_000_000,
            description=MODEL,
            threadId=_threads(index, cores),
            cpuFeature=features(),
        )
        for index in range(PACKAGES)
    ]


def numa(cores: int, memory_bytes: int) -> Any:
    """``hardware.numaInfo``: one node for each package."""
    return build(
        vim.host.NumaInfo,
        type="NUMA",
        numNodes=PACKAGES,
        numaNode=[
            build(
                vim.host.NumaNode,
                typeId=index,
                cpuID=_threads(index, cores),
                memoryRangeBegin=memory_bytes // PACKAGES * index,
                memoryRangeLength=memory_bytes // PACKAGES,
            )
            for index in range(PACKAGES)
        ],
    )
