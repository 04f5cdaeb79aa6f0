"""The 64-bit MMIO window that a virtual machine with passed-through GPUs needs (Broadcom KB 323402).

Too small a window, and the machine does not start ("Module DevicePowerOn power on failed"). The rule counts the whole
framebuffer of all the machine's GPUs: up to the next power of two, and once more up.
"""

from __future__ import annotations

from collections.abc import Iterable

USE_KEY = "pciPassthru.use64bitMMIO"
SIZE_KEY = "pciPassthru.64bitMMIOSizeGB"


def window_gb(framebuffers_mib: Iterable[int]) -> int:
    """Size in GB for `pciPassthru.64bitMMIOSizeGB`, from each GPU's framebuffer in MiB.

    A part of a GiB counts as a whole one. Raises ValueError when there is no GPU or a size is not positive.
    """
    sizes = list(framebuffers_mib)
    if not sizes:
        raise ValueError("no GPU: a virtual machine without GPUs needs no MMIO window")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"framebuffer sizes must be positive MiB, not {sizes}")
    total_gb = -(-sum(sizes) // 1024)
    return int(2 * (1 << (total_gb - 1).bit_length()))


def options(framebuffers_mib: Iterable[int], override_gb: int | None = None) -> dict[str, str]:
    """The extraConfig entries for these GPUs; `override_gb` replaces the computed size (a power of two, in GB)."""
    size = window_gb(framebuffers_mib)
    if override_gb is not None:
        if override_gb <= 0 or override_gb & (override_gb - 1):
            raise ValueError(f"the MMIO window must be a power of two in GB, not {override_gb}")
        size = override_gb
    return {USE_KEY: "TRUE", SIZE_KEY: str(size)}
