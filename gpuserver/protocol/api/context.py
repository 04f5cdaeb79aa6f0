"""Contexts: which one is current is the client's own matter; every request names it."""

from gpuserver.protocol.declare import Family, both, into, out

FAMILY = Family("context")
FAMILY.local(
    "cuCtxGetCurrent cuCtxSetCurrent cuCtxPushCurrent_v2 cuCtxPopCurrent_v2 cuCtxGetDevice cuCtxGetDevice_v2 "
    "cuCtxGetApiVersion cuCtxGetFlags cuCtxGetId"
)
FAMILY.by_hand(
    "cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2 cuDevicePrimaryCtxGetState "
    "cuDevicePrimaryCtxSetFlags_v2 cuCtxCreate_v2 cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxSynchronize "
    "cuCtxSynchronize_v2"
)
FAMILY.ask("cuCtxGetLimit cuCtxGetCacheConfig cuCtxGetSharedMemConfig cuCtxGetStreamPriorityRange")
FAMILY.ask("cuCtxSetLimit cuCtxSetSharedMemConfig cuCtxGetDevResource cuCtxGetExecAffinity")
FAMILY.by_hand("cuCtxEnablePeerAccess cuCtxDisablePeerAccess")
FAMILY.post("cuCtxSetCacheConfig cuCtxResetPersistingL2Cache cuCtxRecordEvent cuCtxWaitEvent")
FAMILY.local("cuCtxAttach cuCtxDetach cuCtxSetFlags")
FAMILY.same(
    cuCtxDestroy="cuCtxDestroy_v2",
    cuCtxPopCurrent="cuCtxPopCurrent_v2",
    cuCtxPushCurrent="cuCtxPushCurrent_v2",
    cuCtxCreate="cuCtxCreate_v2",
    cuDevicePrimaryCtxRelease="cuDevicePrimaryCtxRelease_v2",
    cuDevicePrimaryCtxReset="cuDevicePrimaryCtxReset_v2",
    cuDevicePrimaryCtxSetFlags="cuDevicePrimaryCtxSetFlags_v2",
)

# Green contexts: a share of a device's multiprocessors.
FAMILY.ask("cuDevResourceGenerateDesc", resources=into("nbResources"))
FAMILY.ask("cuDevSmResourceSplitByCount", result=out("nbGroups ? *nbGroups : 0"), nbGroups=both())
FAMILY.ask("cuDevSmResourceSplit", result=out("nbGroups"), groupParams=both("nbGroups"))
FAMILY.ask("cuGreenCtxCreate cuGreenCtxGetDevResource cuGreenCtxGetId cuGreenCtxStreamCreate cuStreamGetGreenCtx")
FAMILY.post("cuGreenCtxDestroy", destroys="hCtx")
FAMILY.post("cuGreenCtxRecordEvent cuGreenCtxWaitEvent")
