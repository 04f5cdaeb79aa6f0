"""Events."""

from gpuserver.protocol.declare import Family

FAMILY = Family("events")
FAMILY.create("cuEventCreate")
FAMILY.post("cuEventRecord cuEventRecordWithFlags")
FAMILY.post("cuEventDestroy_v2", destroys="hEvent")
FAMILY.ask("cuEventElapsedTime cuEventElapsedTime_v2")
FAMILY.by_hand("cuEventSynchronize cuEventQuery")
