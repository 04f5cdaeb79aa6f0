"""The library itself, and which devices there are: the lease's, numbered from 0. A snapshot at the start says so."""

from gpuserver.protocol.nvml_specification import NvmlFamily

FAMILY = NvmlFamily("session")
FAMILY.local("nvmlInit nvmlInit_v2 nvmlInitWithFlags nvmlShutdown nvmlErrorString")
FAMILY.local("nvmlDeviceGetCount nvmlDeviceGetCount_v2 nvmlDeviceGetIndex nvmlDeviceGetMinorNumber")
FAMILY.local("nvmlDeviceGetHandleByIndex nvmlDeviceGetHandleByIndex_v2")
FAMILY.local("nvmlDeviceGetHandleByUUID nvmlDeviceGetHandleBySerial")
FAMILY.local("nvmlDeviceGetHandleByPciBusId nvmlDeviceGetHandleByPciBusId_v2")
FAMILY.local("nvmlDeviceIsMigDeviceHandle nvmlGetExcludedDeviceCount")
FAMILY.once("nvmlSystemGetDriverVersion nvmlSystemGetNVMLVersion")
FAMILY.once("nvmlSystemGetCudaDriverVersion nvmlSystemGetCudaDriverVersion_v2")
