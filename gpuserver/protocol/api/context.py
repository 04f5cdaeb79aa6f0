"""Contexts: which one is current is the client's own matter; every request names it."""

from gpuserver.protocol.declare import Family

FAMILY = Family("context")
FAMILY.local(
    "cuCtxGetCurrent cuCtxSetCurrent cuCtxPushCurrent_v2 cuCtxPopCurrent_v2 cuCtxGetDevice cuCtxGetDevice_v2 "
    "cuCtxGetApiVersion cuCtxGetFlags cuCtxGetId"
)
FAMILY.by_hand(
    "cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2 cuDevicePrimaryCtxGetState "
    "cuDevicePrimaryCtxSetFlags_v2 cuCtxCreate_v2 cuCtxDestroy_v2 cuCtxSynchronize cuCtxSynchronize_v2"
)
FAMILY.ask("cuCtxGetLimit cuCtxGetCacheConfig cuCtxGetSharedMemConfig cuCtxGetStreamPriorityRange")
FAMILY.ask("cuCtxSetLimit cuCtxSetSharedMemConfig cuCtxGetDevResource cuCtxGetExecAffinity")
FAMILY.ask("cuCtxEnablePeerAccess cuCtxDisablePeerAccess")
FAMILY.post("cuCtxSetCacheConfig cuCtxResetPersistingL2Cache cuCtxRecordEvent cuCtxWaitEvent")
