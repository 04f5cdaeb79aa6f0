"""Tensor maps: 128 opaque bytes that kernels take by value; the driver of the GPU's server encodes them."""

from gpuserver.protocol.declare import ADDRESS, Family, both, into

FAMILY = Family("tensor_maps")
_SHAPES = {
    "globalAddress": ADDRESS,
    "globalDim": into("tensorRank"),
    "globalStrides": into("tensorRank ? tensorRank - 1 : 0"),
    "elementStrides": into("tensorRank"),
}
_CORNERS = {
    "pixelBoxLowerCorner": into("tensorRank > 2 ? tensorRank - 2 : 0"),
    "pixelBoxUpperCorner": into("tensorRank > 2 ? tensorRank - 2 : 0"),
}
FAMILY.ask("cuTensorMapEncodeTiled", _SHAPES, boxDim=into("tensorRank"))
FAMILY.ask("cuTensorMapEncodeIm2col", _CORNERS | _SHAPES)
FAMILY.ask("cuTensorMapEncodeIm2colWide", _SHAPES)
FAMILY.ask("cuTensorMapSetAllocationClass", tensorMap=both())
FAMILY.ask("cuTensorMapReplaceAddress", tensorMap=both(), globalAddress=ADDRESS)
