"""The driver itself: initialisation, versions, errors, entry points, profiler switches."""

from gpuserver.protocol.declare import Family

FAMILY = Family("driver")
FAMILY.by_hand("cuInit")
FAMILY.cached("cuDriverGetVersion cuGetErrorName cuGetErrorString")
FAMILY.local("cuGetProcAddress cuGetProcAddress_v2 cuGetExportTable cuModuleGetLoadingMode")
FAMILY.post("cuProfilerStart cuProfilerStop")
