"""Logical endpoints and copies over a fabric: between machines that NVLink joins, of which the client is none."""

from gpuserver.protocol.declare import Family

FAMILY = Family("endpoints")
FAMILY.refuse(
    "cuLogicalEndpointIdReserve cuLogicalEndpointIdRelease cuLogicalEndpointCreate cuLogicalEndpointDestroy "
    "cuLogicalEndpointAddDevice cuLogicalEndpointBindAddr cuLogicalEndpointBindMem cuLogicalEndpointUnbind "
    "cuLogicalEndpointExport cuLogicalEndpointImport cuLogicalEndpointGetLimits cuLogicalEndpointQuery "
    "cuFabricCpyBatchAsync",
    answer="NOT_SUPPORTED",
    reason="the client is no node of an NVLink fabric",
)
