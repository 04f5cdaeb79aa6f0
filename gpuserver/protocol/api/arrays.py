"""CUDA arrays, texture and surface objects."""

from gpuserver.protocol.declare import Family

FAMILY = Family("arrays")
# Both ends count what arrays take of the slice.
FAMILY.by_hand("cuArrayCreate_v2 cuArray3DCreate_v2 cuMipmappedArrayCreate cuArrayDestroy cuMipmappedArrayDestroy")
FAMILY.ask("cuArrayGetDescriptor_v2 cuArray3DGetDescriptor_v2 cuArrayGetPlane cuMipmappedArrayGetLevel")
FAMILY.ask("cuArrayGetMemoryRequirements cuArrayGetSparseProperties")
FAMILY.ask("cuMipmappedArrayGetMemoryRequirements cuMipmappedArrayGetSparseProperties")
FAMILY.ask("cuTexObjectCreate cuTexObjectDestroy cuTexObjectGetTextureDesc cuTexObjectGetResourceViewDesc")
FAMILY.ask("cuSurfObjectCreate cuSurfObjectDestroy")
