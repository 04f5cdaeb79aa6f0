"""Memory and processes: the slice's and the lease's own, counted on the client as cuMemGetInfo counts them."""

from gpuserver.protocol.nvml_specification import NvmlFamily

FAMILY = NvmlFamily("memory")
FAMILY.ask("nvmlDeviceGetMemoryInfo", wrapped=True)
FAMILY.local("nvmlDeviceGetMemoryInfo_v2")
FAMILY.ask("nvmlDeviceGetBAR1MemoryInfo")
FAMILY.local("nvmlDeviceGetComputeRunningProcesses nvmlDeviceGetComputeRunningProcesses_v2")
FAMILY.local("nvmlDeviceGetComputeRunningProcesses_v3")
FAMILY.local("nvmlDeviceGetGraphicsRunningProcesses nvmlDeviceGetGraphicsRunningProcesses_v2")
FAMILY.local("nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses")
FAMILY.local("nvmlDeviceGetMPSComputeRunningProcesses_v2 nvmlDeviceGetMPSComputeRunningProcesses_v3")
FAMILY.local("nvmlSystemGetProcessName")
