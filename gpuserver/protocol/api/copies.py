"""Copies and sets of linear memory and of arrays."""

from gpuserver.protocol.declare import Family

FAMILY = Family("copies")
FAMILY.by_hand(
    "cuMemcpyHtoD_v2 cuMemcpyHtoDAsync_v2 cuMemcpyDtoH_v2 cuMemcpyDtoHAsync_v2 cuMemcpy cuMemcpyAsync "
    "cuMemcpyDtoD_v2 cuMemcpyDtoDAsync_v2"
)
FAMILY.by_hand("cuMemcpy2D_v2 cuMemcpy2DUnaligned_v2 cuMemcpy2DAsync_v2 cuMemcpy3D_v2 cuMemcpy3DAsync_v2")
FAMILY.by_hand("cuMemcpyHtoA_v2 cuMemcpyHtoAAsync_v2 cuMemcpyAtoH_v2 cuMemcpyAtoHAsync_v2")
FAMILY.post("cuMemcpyDtoA_v2 cuMemcpyAtoD_v2 cuMemcpyAtoA_v2", wrapped=True)
FAMILY.post("cuMemcpyPeer cuMemcpyPeerAsync", wrapped=True)

_SETS = {"D8": 1, "D16": 2, "D32": 4}
for _kind in _SETS:
    FAMILY.post(f"cuMemset{_kind}_v2 cuMemset{_kind}Async cuMemsetD2{_kind}_v2 cuMemsetD2{_kind}Async", wrapped=True)

FAMILY.by_hand("cuMemcpyBatchAsync cuMemcpyBatchAsync_v2 cuMemcpy3DBatchAsync cuMemcpy3DBatchAsync_v2")
FAMILY.by_hand("cuMemcpyWithAttributesAsync cuMemcpy3DWithAttributesAsync cuMemcpy3DPeer cuMemcpy3DPeerAsync")
