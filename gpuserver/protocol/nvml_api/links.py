"""NVLink and the fabric."""

from gpuserver.protocol.nvml_specification import NvmlFamily

FAMILY = NvmlFamily("links")
FAMILY.ask("nvmlDeviceGetNvLinkState nvmlDeviceGetNvLinkVersion nvmlDeviceGetNvLinkCapability")
FAMILY.ask("nvmlDeviceGetNvLinkRemotePciInfo nvmlDeviceGetNvLinkRemotePciInfo_v2 nvmlDeviceGetNvLinkErrorCounter")
FAMILY.ask("nvmlDeviceGetNvLinkRemoteDeviceType nvmlDeviceGetGpuFabricInfo nvmlDeviceGetGpuFabricInfoV")
