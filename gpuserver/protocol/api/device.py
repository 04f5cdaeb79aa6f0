"""Devices: a snapshot at session start answers nearly everything."""

from gpuserver.protocol.declare import Family, both, into, out

FAMILY = Family("device")
FAMILY.cached(
    "cuDeviceGet cuDeviceGetCount cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2 cuDeviceTotalMem_v2 "
    "cuDeviceGetAttribute cuDeviceComputeCapability cuDeviceGetProperties cuDeviceGetPCIBusId cuDeviceGetByPCIBusId "
    "cuDeviceCanAccessPeer"
)
FAMILY.ask("cuDeviceGetP2PAttribute", wrapped=True)
FAMILY.ask("cuDeviceGetTexture1DLinearMaxWidth cuDeviceGetExecAffinitySupport")
FAMILY.ask("cuDeviceGetHostAtomicCapabilities", capabilities=out("count"), operations=into("count"))
FAMILY.ask("cuDeviceGetP2PAtomicCapabilities", wrapped=True, capabilities=out("count"), operations=into("count"))
FAMILY.ask("cuDeviceGetLuid", luid=out("8"))
FAMILY.ask("cuDeviceGetCliqueCount cuDeviceGetFabricClusterUuid")
FAMILY.ask("cuDeviceGetCliqueInfo", cliqueInfo=out("count ? *count : 0"), count=both())
FAMILY.ask("cuDeviceGetDevResource cuFlushGPUDirectRDMAWrites")
FAMILY.ask("cuDeviceGetGraphMemAttribute", value=out("1", "cuuint64_t"))
FAMILY.post("cuDeviceSetGraphMemAttribute", value=into("1", "cuuint64_t"))
FAMILY.post("cuDeviceGraphMemTrim")
# A slice is never beyond its budget, of which alone the notifications tell.
FAMILY.local("cuDeviceRegisterAsyncNotification cuDeviceUnregisterAsyncNotification")
