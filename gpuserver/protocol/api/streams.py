"""Streams, and memory operations in streams that are plain values."""

from gpuserver.protocol.declare import Family

FAMILY = Family("streams")
FAMILY.create("cuStreamCreate cuStreamCreateWithPriority")
FAMILY.post("cuStreamDestroy_v2", destroys="hStream")
FAMILY.post("cuStreamWaitEvent cuStreamCopyAttributes cuStreamAttachMemAsync")
FAMILY.post("cuStreamWaitValue32_v2 cuStreamWaitValue64_v2 cuStreamWriteValue32_v2 cuStreamWriteValue64_v2")
FAMILY.ask("cuStreamGetPriority cuStreamGetFlags cuStreamGetDevice cuStreamGetId")
FAMILY.ask("cuStreamGetAttribute")
FAMILY.post("cuStreamSetAttribute")
FAMILY.ask("cuStreamGetDevResource")
FAMILY.ask("cuStreamGetCtx")
FAMILY.by_hand("cuStreamSynchronize cuStreamQuery")
