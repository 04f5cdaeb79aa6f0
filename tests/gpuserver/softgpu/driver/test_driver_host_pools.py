"""Memory pools on the host: pinned memory in a stream's order, which host and kernels use at one address."""

from __future__ import annotations

import ctypes

from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

MIB = 1 << 20
ADD_ONE = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry add_one(.param .u64 place, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %d<3>;
    ld.param.u64 %d1, [place];
    ld.param.u32 %r1, [count];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r2, %r2, %r3, %r4;
    setp.ge.u32 %p, %r2, %r1;
    @%p ret;
    mul.wide.u32 %d2, %r2, 4;
    add.s64 %d1, %d1, %d2;
    ld.global.u32 %r3, [%d1];
    add.u32 %r3, %r3, 1;
    st.global.u32 [%d1], %r3;
    ret;
}
"""


def host_pool(kind: cu.CUmemLocationType = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST, most: int = 0) -> object:
    properties = cu.CUmemPoolProps()
    properties.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = kind
    properties.maxSize = most
    return cu.cuMemPoolCreate(properties)


def access(flags: cu.CUmemAccess_flags) -> cu.CUmemAccessDesc:
    description = cu.CUmemAccessDesc()
    description.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    description.location.id = 0
    description.flags = flags
    return description


@software_gpu()
def test_pools_on_the_host() -> None:
    """Pinned memory in a stream's order, which host and kernels use at one address."""
    primary()
    kinds, flags, told = cu.CUmemLocationType, cu.CUmemAccess_flags, cu.CUmemPool_attribute
    supported = cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED
    assert ok(cu.cuDeviceGetAttribute(supported, 0)) == 1
    refused(host_pool(kinds.CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT), "INVALID_VALUE")
    pool = ok(host_pool(kinds.CU_MEM_LOCATION_TYPE_HOST_NUMA, 4 * MIB))
    assert ok(cu.cuMemPoolGetAttribute(pool, told.CU_MEMPOOL_ATTR_LOCATION_TYPE)) == 3
    here = access(flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE).location
    assert ok(cu.cuMemPoolGetAccess(pool, here)) == flags.CU_MEM_ACCESS_FLAGS_PROT_NONE
    ok(cu.cuMemPoolSetAccess(pool, [access(flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE)], 1))
    assert ok(cu.cuMemPoolGetAccess(pool, here)) == flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    stream = ok(cu.cuStreamCreate(1))
    free = ok(cu.cuMemGetInfo())[0]
    memory = ok(cu.cuMemAllocFromPoolAsync(MIB, pool, stream))
    assert ok(cu.cuMemGetInfo())[0] == free
    kind = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    assert ok(cu.cuPointerGetAttribute(kind, memory)) == cu.CUmemorytype.CU_MEMORYTYPE_HOST
    words = (ctypes.c_uint32 * (MIB // 4)).from_address(int(memory))
    ok(cu.cuMemsetD32Async(memory, 41, MIB // 4, stream))
    module = ok(cu.cuModuleLoadData(ADD_ONE))
    kernel = ok(cu.cuModuleGetFunction(module, b"add_one"))
    arguments = ((int(memory), MIB // 4), (ctypes.c_uint64, ctypes.c_uint32))
    ok(cu.cuLaunchKernel(kernel, MIB // 4 // 256, 1, 1, 256, 1, 1, 0, stream, arguments, 0))
    ok(cu.cuStreamSynchronize(stream))
    assert (words[0], words[MIB // 4 - 1]) == (42, 42)
    words[7] = 1000
    ok(cu.cuLaunchKernel(kernel, MIB // 4 // 256, 1, 1, 256, 1, 1, 0, stream, arguments, 0))
    ok(cu.cuStreamSynchronize(stream))
    assert (words[6], words[7]) == (43, 1001)

    refused(cu.cuMemAllocFromPoolAsync(4 * MIB, pool, stream), "OUT_OF_MEMORY")
    assert int(ok(cu.cuMemPoolGetAttribute(pool, told.CU_MEMPOOL_ATTR_USED_MEM_CURRENT))) == MIB
    refused(cu.cuMemFreeHost(int(memory)), "INVALID_VALUE")
    ok(cu.cuMemFreeAsync(memory, stream))
    refused(cu.cuMemFreeAsync(memory, stream), "INVALID_VALUE")
    ok(cu.cuStreamSynchronize(stream))
    assert int(ok(cu.cuMemPoolGetAttribute(pool, told.CU_MEMPOOL_ATTR_USED_MEM_CURRENT))) == 0
    assert int(ok(cu.cuMemPoolGetAttribute(pool, told.CU_MEMPOOL_ATTR_USED_MEM_HIGH))) == MIB
    again = ok(cu.cuMemAllocFromPoolAsync(3 * MIB, pool, stream))
    ok(cu.cuMemFree(again))
    refused(cu.cuDeviceSetMemPool(0, pool), "INVALID_VALUE")
    ok(cu.cuMemPoolDestroy(pool))


@software_gpu()
def test_the_hosts_own_pool() -> None:
    primary()
    location = cu.CUmemLocation()
    location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST
    pinned = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    own = ok(cu.cuMemGetDefaultMemPool(location, pinned))
    assert int(ok(cu.cuMemGetMemPool(location, pinned))) == int(own)
    other = ok(host_pool())
    ok(cu.cuMemSetMemPool(location, pinned, other))
    assert int(ok(cu.cuMemGetMemPool(location, pinned))) == int(other)
    refused(cu.cuMemPoolDestroy(own), "INVALID_VALUE")
    ok(cu.cuMemPoolDestroy(other))
    assert int(ok(cu.cuMemGetMemPool(location, pinned))) == int(own)
    memory = ok(cu.cuMemAllocFromPoolAsync(5000, own, 0))
    ok(cu.cuMemsetD8(memory, 9, 5000))
    assert (ctypes.c_ubyte * 5000).from_address(int(memory))[4999] == 9
    ok(cu.cuMemFree(memory))
