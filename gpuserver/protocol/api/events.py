"""Events."""

from gpuserver.protocol.declare import Family

FAMILY = Family("events")
FAMILY.create("cuEventCreate", wrapped=True)
FAMILY.post("cuEventRecord cuEventRecordWithFlags", wrapped=True)
FAMILY.post("cuEventDestroy_v2", destroys="hEvent")
FAMILY.ask("cuEventElapsedTime_v2")
FAMILY.by_hand("cuEventSynchronize cuEventQuery")
FAMILY.same(cuEventDestroy="cuEventDestroy_v2", cuEventElapsedTime="cuEventElapsedTime_v2")
