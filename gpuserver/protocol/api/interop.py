"""What belongs to the client's own machine: another API's memory and semaphores, graphics, file descriptors.

A GPU server's driver cannot see it. The answers are those of NVIDIA's driver where the facility is not there; of calls
that take an object of such an API, those for a handle that is none, since none can have been made.
"""

from gpuserver.protocol.declare import Family

FAMILY = Family("interop")
_MEMORY = "memory of another API is on the client's machine, out of reach of the GPU server's driver"
_SEMAPHORE = "a semaphore of another API is on the client's machine, out of reach of the GPU server's driver"
_GRAPHICS = "the graphics API's resource is on the client's machine, out of reach of the GPU server's driver"
_NODE = "there can be no external semaphore, so no node of a graph holds one"

FAMILY.refuse("cuImportExternalMemory", answer="NOT_SUPPORTED", reason=_MEMORY)
FAMILY.refuse("cuExternalMemoryGetMappedBuffer", answer="INVALID_HANDLE", reason=_MEMORY)
FAMILY.refuse(
    "cuExternalMemoryGetMappedMipmappedArray cuDestroyExternalMemory", answer="INVALID_HANDLE", reason=_MEMORY
)
FAMILY.refuse("cuImportExternalSemaphore", answer="NOT_SUPPORTED", reason=_SEMAPHORE)
FAMILY.refuse(
    "cuSignalExternalSemaphoresAsync cuWaitExternalSemaphoresAsync cuDestroyExternalSemaphore",
    answer="INVALID_HANDLE",
    reason=_SEMAPHORE,
)
FAMILY.refuse(
    "cuGraphAddExternalSemaphoresSignalNode cuGraphAddExternalSemaphoresWaitNode "
    "cuGraphExternalSemaphoresSignalNodeGetParams cuGraphExternalSemaphoresSignalNodeSetParams "
    "cuGraphExternalSemaphoresWaitNodeGetParams cuGraphExternalSemaphoresWaitNodeSetParams "
    "cuGraphExecExternalSemaphoresSignalNodeSetParams cuGraphExecExternalSemaphoresWaitNodeSetParams",
    answer="INVALID_VALUE",
    reason=_NODE,
)
FAMILY.refuse("cuDeviceGetNvSciSyncAttributes", answer="NOT_SUPPORTED", reason=_SEMAPHORE)
FAMILY.refuse(
    "cuGraphicsMapResources cuGraphicsUnmapResources cuGraphicsUnregisterResource cuGraphicsResourceSetMapFlags "
    "cuGraphicsResourceSetMapFlags_v2 cuGraphicsResourceGetMappedPointer cuGraphicsResourceGetMappedPointer_v2 "
    "cuGraphicsResourceGetMappedMipmappedArray cuGraphicsSubResourceGetMappedArray",
    answer="INVALID_HANDLE",
    reason=_GRAPHICS,
)
FAMILY.refuse(
    "cuStreamBeginCaptureToCig cuStreamEndCaptureToCig",
    answer="NOT_SUPPORTED",
    reason="the graphics API's command queue is on the client's machine",
)
FAMILY.refuse(
    "cuMemGetHandleForAddressRange",
    answer="NOT_SUPPORTED",
    reason="a dma-buf of a GPU server's memory cannot exist on the client's machine",
)
FAMILY.refuse(
    "cuLibraryGetUnifiedFunction",
    answer="NOT_FOUND",
    reason="no function runs both on the client's processor and on a GPU of another machine",
)
