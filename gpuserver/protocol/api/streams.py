"""Streams, and memory operations in streams that are plain values."""

from gpuserver.protocol.declare import Family, into

FAMILY = Family("streams")
FAMILY.create("cuStreamCreate cuStreamCreateWithPriority", wrapped=True)
FAMILY.post("cuStreamDestroy_v2", destroys="hStream")
FAMILY.post("cuStreamWaitEvent", wrapped=True)
FAMILY.post("cuStreamCopyAttributes")
FAMILY.post(
    "cuStreamWaitValue32_v2 cuStreamWaitValue64_v2 cuStreamWriteValue32_v2 cuStreamWriteValue64_v2", wrapped=True
)
FAMILY.post("cuStreamBatchMemOp_v2", paramArray=into("count"), wrapped=True)
FAMILY.ask("cuStreamGetPriority cuStreamGetFlags cuStreamGetDevice cuStreamGetId cuStreamGetDevResource")
FAMILY.ask("cuStreamGetAttribute cuStreamGetCtx cuStreamGetCtx_v2")
FAMILY.post("cuStreamSetAttribute")
FAMILY.by_hand("cuStreamSynchronize cuStreamQuery")
FAMILY.same(
    cuStreamDestroy="cuStreamDestroy_v2",
    cuStreamBatchMemOp="cuStreamBatchMemOp_v2",
    cuStreamWaitValue32="cuStreamWaitValue32_v2",
    cuStreamWaitValue64="cuStreamWaitValue64_v2",
    cuStreamWriteValue32="cuStreamWriteValue32_v2",
    cuStreamWriteValue64="cuStreamWriteValue64_v2",
)
