"""The driver itself: initialisation, versions, errors, entry points, profiler switches."""

from gpuserver.protocol.declare import Family

FAMILY = Family("driver")
FAMILY.by_hand("cuInit")
FAMILY.cached("cuDriverGetVersion cuGetErrorName cuGetErrorString")
FAMILY.local("cuGetProcAddress cuGetProcAddress_v2 cuGetExportTable cuModuleGetLoadingMode")
FAMILY.post("cuProfilerStart cuProfilerStop")
FAMILY.local("cuLogsRegisterCallback cuLogsUnregisterCallback cuLogsCurrent cuLogsDumpToFile cuLogsDumpToMemory")
FAMILY.refuse(
    "cuProfilerInitialize",
    answer="NOT_SUPPORTED",
    reason="NVIDIA's driver answers the same from CUDA 12.0 on: its command line profiler is gone",
)
