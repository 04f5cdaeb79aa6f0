"""The GPUs of this server and their health, through NVML."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path

import pynvml


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML describes it now. Memory in MiB, utilisation in percent, temperature in degrees Celsius."""

    ordinal: int
    uuid: str
    name: str
    pci_bus_id: str
    memory_total_mib: int
    memory_used_mib: int
    utilisation: int | None
    temperature: int | None
    driver_version: str


class NvmlError(RuntimeError):
    """NVML cannot be used; the message says why."""


def load_nvml(folder: Path | None) -> None:
    """Load `libnvidia-ml.so.1` from `folder` (None: the system's) and initialise it. Raises NvmlError."""
    try:
        if folder is not None:
            # pynvml asks for the library by its name; one that is loaded already under that name answers.
            ctypes.CDLL(str(folder / "libnvidia-ml.so.1"), mode=ctypes.RTLD_GLOBAL)
        pynvml.nvmlInit()
    except (OSError, pynvml.NVMLError) as error:
        raise NvmlError(f"NVML is not usable: {error}") from error


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def read_gpus() -> list[Gpu]:
    """Every GPU, as it is now. Raises NvmlError."""
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return [_read_gpu(i, driver) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise NvmlError(f"NVML does not answer: {error}") from error


def _read_gpu(ordinal: int, driver: str) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(ordinal)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilisation: int | None = None
    temperature: int | None = None
    with contextlib.suppress(pynvml.NVMLError_NotSupported):
        utilisation = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    with contextlib.suppress(pynvml.NVMLError_NotSupported):
        temperature = int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    return Gpu(
        ordinal=ordinal,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        pci_bus_id=_text(pynvml.nvmlDeviceGetPciInfo(handle).busId),
        memory_total_mib=int(memory.total) >> 20,
        memory_used_mib=int(memory.used) >> 20,
        utilisation=utilisation,
        temperature=temperature,
        driver_version=driver,
    )
