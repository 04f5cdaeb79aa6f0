"""Device memory: allocation without a round trip, queries from the client's own map of addresses."""

from gpuserver.protocol.declare import Family

FAMILY = Family("memory")
FAMILY.by_hand("cuMemAlloc_v2 cuMemFree_v2")
FAMILY.local("cuMemGetInfo_v2 cuMemGetAddressRange_v2")
