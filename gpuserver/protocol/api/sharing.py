"""Memory and events that processes of one lease share, each with a worker of its own on the same server."""

from gpuserver.protocol.declare import Family

FAMILY = Family("sharing")
FAMILY.by_hand("cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuIpcCloseMemHandle")
FAMILY.by_hand("cuMemExportToShareableHandle cuMemImportFromShareableHandle")
FAMILY.by_hand("cuMemPoolExportToShareableHandle cuMemPoolImportFromShareableHandle")
FAMILY.by_hand("cuMemPoolExportPointer cuMemPoolImportPointer")
FAMILY.ask("cuIpcGetEventHandle cuIpcOpenEventHandle")
FAMILY.same(cuIpcOpenMemHandle="cuIpcOpenMemHandle_v2")
