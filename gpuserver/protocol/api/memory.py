"""Device memory: allocation without a round trip, queries from the client's own map of addresses."""

from gpuserver.protocol.declare import Family, into

FAMILY = Family("memory")
FAMILY.by_hand("cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2")
FAMILY.local("cuMemGetInfo_v2 cuMemGetAddressRange_v2 cuPointerGetAttribute cuPointerGetAttributes")
FAMILY.post("cuPointerSetAttribute", wrapped=True, value=into("1", "int"))

# Virtual memory management: addresses are the client's to give, inside the session's window; the rest is posted.
FAMILY.local("cuMemAddressReserve cuMemAddressFree cuMemGetAllocationPropertiesFromHandle cuMemRetainAllocationHandle")
FAMILY.by_hand("cuMemCreate cuMemRelease cuMemMap cuMemUnmap")
FAMILY.post("cuMemSetAccess", desc=into("count"), wrapped=True)
FAMILY.ask("cuMemGetAccess cuMemGetAllocationGranularity")
FAMILY.ask("cuMulticastGetGranularity")
FAMILY.ask("cuMemBatchDecompressAsync", paramsArray=into("count"))

# Stream-ordered allocation: the same budget and window, so pools are the client's own matter.
FAMILY.by_hand("cuMemAllocAsync cuMemAllocFromPoolAsync cuMemFreeAsync")
FAMILY.local(
    "cuMemPoolCreate cuMemPoolDestroy cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceSetMemPool "
    "cuMemGetDefaultMemPool cuMemGetMemPool cuMemSetMemPool "
    "cuMemPoolTrimTo cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolSetAccess cuMemPoolGetAccess"
)

# Pinned host memory.
FAMILY.by_hand("cuMemHostAlloc cuMemAllocHost_v2 cuMemFreeHost cuMemHostRegister_v2 cuMemHostUnregister")
FAMILY.local("cuMemHostGetFlags")
FAMILY.same(cuMemHostRegister="cuMemHostRegister_v2")

# Unified memory: the server's GPU reaches its twin, so where it should be is a hint without effect.
FAMILY.by_hand("cuMemAllocManaged cuMemHostGetDevicePointer_v2")
FAMILY.local("cuMemAdvise cuMemAdvise_v2 cuMemPrefetchAsync cuMemPrefetchAsync_v2 cuMemPrefetchBatchAsync")
FAMILY.local("cuMemRangeGetAttribute cuMemRangeGetAttributes cuStreamAttachMemAsync")
FAMILY.local("cuMemDiscardBatchAsync cuMemDiscardAndPrefetchBatchAsync cuMemGetLocationInfo")
