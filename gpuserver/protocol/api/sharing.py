"""Memory and events that processes of one lease share, each with a worker of its own on the same server."""

from gpuserver.protocol.declare import Family

FAMILY = Family("sharing")
FAMILY.by_hand("cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuIpcCloseMemHandle")
FAMILY.ask("cuIpcGetEventHandle cuIpcOpenEventHandle")
FAMILY.same(cuIpcOpenMemHandle="cuIpcOpenMemHandle_v2")
