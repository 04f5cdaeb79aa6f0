"""Copies and sets of linear memory."""

from gpuserver.protocol.declare import Family

FAMILY = Family("copies")
FAMILY.by_hand(
    "cuMemcpyHtoD_v2 cuMemcpyHtoDAsync_v2 cuMemcpyDtoH_v2 cuMemcpyDtoHAsync_v2 cuMemcpy cuMemcpyAsync "
    "cuMemcpyDtoD_v2 cuMemcpyDtoDAsync_v2"
)
FAMILY.post("cuMemsetD8_v2 cuMemsetD16_v2 cuMemsetD32_v2 cuMemsetD2D8_v2 cuMemsetD2D16_v2 cuMemsetD2D32_v2")
FAMILY.post("cuMemsetD8Async cuMemsetD16Async cuMemsetD32Async cuMemsetD2D8Async cuMemsetD2D16Async cuMemsetD2D32Async")
