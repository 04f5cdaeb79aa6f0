"""What a GPU server has and how its GPUs are, read through NVML; the software GPU's libnvidia-ml answers just as well.

`read_inventory` is what the daemon reports to the appliance, `observe_server` what it tells the health checks. A value
that a device or driver does not offer is left out, never invented.
"""

from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml

from gpuserver.control import Inventory
from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.messages import GpuRecord, Observation
from gpuserver.xid import Place

MIB = 1 << 20
THROTTLE_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
"""nvmlClocksEventReasons that slow a busy GPU down (nvml.h)."""


class InventoryError(RuntimeError):
    """NVML cannot be used; the text says why and what to do."""


@contextmanager
def nvml() -> Iterator[None]:
    """NVML, initialised. Raises InventoryError."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as failure:
        raise InventoryError(
            f"NVML cannot be initialised ({failure}): check that the NVIDIA driver is installed and `nvidia-smi` works"
        ) from failure
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return printable(value.decode(errors="replace") if isinstance(value, bytes) else value)


def _offered(read: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers, or None for what this device does not offer."""
    try:
        return read(*arguments)
    except pynvml.NVMLError:
        return None


def read_inventory(address: str, version: str, host: str = "") -> Inventory:
    """The server's GPUs. A GPU's memory is what programs can get: without what the driver keeps for itself."""
    with nvml():
        gpus = []
        for ordinal in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(ordinal)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            second = _offered(pynvml.nvmlDeviceGetMemoryInfo, device, pynvml.nvmlMemory_v2)
            kept = getattr(second, "reserved", 0) or 0
            pci = _offered(pynvml.nvmlDeviceGetPciInfo, device)
            attributes = _offered(pynvml.nvmlDeviceGetAttributes, device)
            gpus.append(
                GpuRecord(
                    id=_text(pynvml.nvmlDeviceGetUUID(device)),
                    ordinal=ordinal,
                    name=_text(pynvml.nvmlDeviceGetName(device)),
                    memory_mib=max(1, (memory.total - kept) // MIB),
                    multiprocessors=getattr(attributes, "multiprocessorCount", 0),
                    pci=_text(pci.busId) if pci else "",
                )
            )
        level = _offered(pynvml.nvmlSystemGetCudaDriverVersion_v2) or 0
        return Inventory(
            address=address,
            gpus=tuple(gpus),
            hostname=printable(socket.gethostname()),
            host=host,
            has_rdma=rdma_state() == "active",
            cuda_version=f"{level // 1000}.{level % 1000 // 10}" if level else "",
            driver_version=_text(_offered(pynvml.nvmlSystemGetDriverVersion) or ""),
            version=version,
        )


def observe_server(
    folder: Path, leased_mib: Mapping[str, int], xids: Mapping[Place, int] | None
) -> tuple[Observation, ...]:
    """Facts for the health checks. `folder`: where modules and logs are kept; `leased_mib`: GPU → MiB of leases;
    `xids`: the last Xid of each GPU that reported one, None when that is not known."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts = [
        Observation("disk.free", str(shutil.disk_usage(folder).free // MIB)),
        Observation("files.limit", str(files)),
        Observation("rdma.link", rdma_state()),
    ]
    try:
        with nvml():
            driver = _offered(pynvml.nvmlSystemGetDriverVersion)
            if driver:
                facts.append(Observation("driver.version", _text(driver)))
                facts.append(Observation("driver.match", _kernel_match(_text(driver))))
            level = _offered(pynvml.nvmlSystemGetCudaDriverVersion_v2)
            if level:
                facts.append(Observation("cuda.version", f"{level // 1000}.{level % 1000 // 10}"))
            for ordinal in range(pynvml.nvmlDeviceGetCount()):
                device = pynvml.nvmlDeviceGetHandleByIndex(ordinal)
                facts.extend(_observe_gpu(device, leased_mib))
                if xids is not None:
                    facts.extend(_observe_xid(device, xids))
    except InventoryError as unusable:
        facts.append(Observation("driver.match", printable(str(unusable))[:200]))
    return tuple(facts)


def _kernel_match(library: str) -> str:
    """Whether the kernel module is of the library's version; `same` where there is no module to differ."""
    path = Path("/sys/module/nvidia/version")
    loaded = path.read_text().strip() if path.exists() else library
    return "same" if loaded == library else f"{loaded} loaded, {library} installed"


def _observe_xid(device: Any, xids: Mapping[Place, int]) -> Iterator[Observation]:
    pci = _offered(pynvml.nvmlDeviceGetPciInfo, device)
    if pci:
        last = xids.get((pci.domain, pci.bus, pci.device), 0)
        yield Observation("gpu.xid", str(last), _text(pynvml.nvmlDeviceGetUUID(device)))


def _observe_gpu(device: Any, leased_mib: Mapping[str, int]) -> Iterator[Observation]:
    id_ = _text(pynvml.nvmlDeviceGetUUID(device))
    temperature = _offered(pynvml.nvmlDeviceGetTemperature, device, pynvml.NVML_TEMPERATURE_GPU)
    if temperature is not None:
        yield Observation("gpu.temperature", str(temperature), id_)
    rates = _offered(pynvml.nvmlDeviceGetUtilizationRates, device)
    if rates is not None:
        yield Observation("gpu.utilisation", str(rates.gpu), id_)
    milliwatts = _offered(pynvml.nvmlDeviceGetPowerUsage, device)
    if milliwatts is not None:
        yield Observation("gpu.power", f"{milliwatts / 1000:.1f}", id_)
    kind = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    errors = _offered(pynvml.nvmlDeviceGetTotalEccErrors, device, kind, pynvml.NVML_VOLATILE_ECC)
    if errors is not None:
        yield Observation("gpu.ecc", str(errors), id_)
    reasons = _offered(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, device)
    if reasons is not None:
        slowed = [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]
        yield Observation("gpu.throttle", ", ".join(slowed) or "none", id_)
    width = _offered(pynvml.nvmlDeviceGetCurrPcieLinkWidth, device)
    widest = _offered(pynvml.nvmlDeviceGetMaxPcieLinkWidth, device)
    if width and widest:
        yield Observation("gpu.pcie", f"{width}/{widest}", id_)
    memory = _offered(pynvml.nvmlDeviceGetMemoryInfo, device)
    processes = _offered(pynvml.nvmlDeviceGetComputeRunningProcesses, device)
    if memory is not None:
        yield Observation("gpu.memory-used", str(memory.used // MIB), id_)
    if memory is not None and processes is not None:
        known = sum((each.usedGpuMemory or 0) for each in processes) // MIB
        leaked = memory.used // MIB - max(known, leased_mib.get(id_, 0))
        yield Observation("gpu.leaked", str(max(0, leaked)), id_)


def rdma_state(root: Path = Path("/sys/class/infiniband")) -> str:
    """`active`, `none` without an adapter, or the kernel's word for the first link that is not active."""
    states = [path.read_text().strip() for path in sorted(root.glob("*/ports/*/state"))]
    for state in states:
        if not state.endswith("ACTIVE"):
            return printable(state.rpartition(" ")[2].lower())
    return "active" if states else "none"
