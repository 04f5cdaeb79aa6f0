"""CUDA arrays, texture and surface objects; texture and surface references, which programs of before CUDA 12 have."""

from gpuserver.protocol.declare import TEXT, Family, into, out

FAMILY = Family("arrays")
# Both ends count what arrays take of the slice.
FAMILY.by_hand("cuArrayCreate_v2 cuArray3DCreate_v2 cuMipmappedArrayCreate cuArrayDestroy cuMipmappedArrayDestroy")
FAMILY.ask("cuArrayGetDescriptor_v2 cuArray3DGetDescriptor_v2 cuArrayGetPlane cuMipmappedArrayGetLevel")
FAMILY.ask("cuArrayGetMemoryRequirements cuArrayGetSparseProperties")
FAMILY.ask("cuMipmappedArrayGetMemoryRequirements cuMipmappedArrayGetSparseProperties")
FAMILY.ask("cuTexObjectCreate cuTexObjectDestroy cuTexObjectGetTextureDesc cuTexObjectGetResourceViewDesc")
FAMILY.ask("cuSurfObjectCreate cuSurfObjectDestroy cuTexObjectGetResourceDesc cuSurfObjectGetResourceDesc")

# References belong to their module.
FAMILY.ask("cuModuleGetTexRef cuModuleGetSurfRef", name=TEXT)
FAMILY.ask("cuTexRefCreate cuTexRefSetArray cuTexRefSetMipmappedArray cuTexRefSetAddress2D_v3 cuTexRefSetFormat")
FAMILY.ask("cuTexRefDestroy", destroys="hTexRef")
FAMILY.ask("cuTexRefSetAddress_v2 cuTexRefSetAddressMode cuTexRefSetFilterMode cuTexRefSetMipmapFilterMode")
FAMILY.ask("cuTexRefSetMipmapLevelBias cuTexRefSetMipmapLevelClamp cuTexRefSetMaxAnisotropy cuTexRefSetFlags")
FAMILY.ask("cuTexRefSetBorderColor", pBorderColor=into("4"))
FAMILY.ask("cuTexRefGetBorderColor", pBorderColor=out("4"))
FAMILY.ask("cuTexRefGetAddress_v2 cuTexRefGetArray cuTexRefGetMipmappedArray cuTexRefGetAddressMode")
FAMILY.ask("cuTexRefGetFilterMode cuTexRefGetFormat cuTexRefGetMipmapFilterMode cuTexRefGetMipmapLevelBias")
FAMILY.ask("cuTexRefGetMipmapLevelClamp cuTexRefGetMaxAnisotropy cuTexRefGetFlags")
FAMILY.ask("cuSurfRefSetArray cuSurfRefGetArray cuParamSetTexRef")
FAMILY.same(cuTexRefSetAddress2D_v2="cuTexRefSetAddress2D_v3")

# Which memory lies behind which tiles of a sparse array.
FAMILY.post("cuMemMapArrayAsync", mapInfoList=into("count"))
