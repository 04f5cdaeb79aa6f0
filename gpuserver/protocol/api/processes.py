"""What the driver does to or writes about a process of its own machine: checkpoints and core dumps."""

from gpuserver.protocol.declare import Family

FAMILY = Family("processes")
FAMILY.refuse(
    "cuCheckpointProcessGetState cuCheckpointProcessGetRestoreThreadId cuCheckpointProcessLock "
    "cuCheckpointProcessCheckpoint cuCheckpointProcessRestore cuCheckpointProcessUnlock cuCheckpointOperationComplete",
    answer="NOT_SUPPORTED",
    reason="the process is on the client's machine, its state on the GPU in a worker of the GPU server",
)
FAMILY.refuse(
    "cuCoredumpGetAttribute cuCoredumpGetAttributeGlobal cuCoredumpSetAttribute cuCoredumpSetAttributeGlobal "
    "cuCoredumpRegisterStartCallback cuCoredumpRegisterCompleteCallback cuCoredumpDeregisterStartCallback "
    "cuCoredumpDeregisterCompleteCallback",
    answer="NOT_SUPPORTED",
    reason="the driver would write the core dump on the GPU server, of its worker instead of the program",
)
