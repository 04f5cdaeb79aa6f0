"""First versions of functions, with sizes and device addresses of 32 bits.

NVIDIA's driver keeps them for contexts of API version 3010. In any later one they answer CUDA_ERROR_INVALID_CONTEXT
("mixes different API versions (i.e. 3010 context with 3020 API calls)", says cuda.h of that error), and a 64-bit
program cannot make an older one.
"""

from gpuserver.protocol.declare import Family

FAMILY = Family("first_versions")
_REASON = "sizes and addresses of 32 bits are for contexts of API version 3010, which no 64-bit program has"
FAMILY.refuse(
    "cuArrayCreate cuArray3DCreate cuArrayGetDescriptor cuArray3DGetDescriptor cuMemAlloc cuMemAllocHost "
    "cuMemAllocPitch cuMemFree cuMemGetAddressRange cuMemGetInfo cuMemHostGetDevicePointer cuModuleGetGlobal "
    "cuMemcpy2D cuMemcpy2DAsync cuMemcpy2DUnaligned cuMemcpy3D cuMemcpy3DAsync cuMemcpyAtoA cuMemcpyAtoD cuMemcpyAtoH "
    "cuMemcpyAtoHAsync cuMemcpyDtoA cuMemcpyDtoD cuMemcpyDtoDAsync cuMemcpyDtoH cuMemcpyDtoHAsync cuMemcpyHtoA "
    "cuMemcpyHtoAAsync cuMemcpyHtoD cuMemcpyHtoDAsync cuMemsetD8 cuMemsetD16 cuMemsetD32 cuMemsetD2D8 cuMemsetD2D16 "
    "cuMemsetD2D32 cuTexRefGetAddress cuTexRefSetAddress cuTexRefSetAddress2D",
    answer="INVALID_CONTEXT",
    reason=_REASON,
)
FAMILY.refuse("cuDeviceTotalMem", answer="NOT_SUPPORTED", reason="a GPU's memory is larger than 32 bits can say")
