"""Device memory, host memory, managed memory, copies, sets, pointer attributes."""

from __future__ import annotations

import ctypes
import mmap
import time

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

MIB = 1 << 20


def upload(values: np.ndarray) -> cu.CUdeviceptr:
    address = ok(cu.cuMemAlloc(values.nbytes))
    ok(cu.cuMemcpyHtoD(address, values.ctypes.data, values.nbytes))
    return address


def download(address: int, count: int, kind: type = np.uint8) -> np.ndarray:
    values = np.empty(count, kind)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes))
    return values


@software_gpu(memory_mib="64")
def test_memory_ends_exactly_at_the_configured_size() -> None:
    primary()
    assert ok(cu.cuMemGetInfo()) == (64 * MIB, 64 * MIB)
    assert ok(cu.cuDeviceTotalMem(0)) == 64 * MIB
    most = ok(cu.cuMemAlloc(64 * MIB - 512))
    assert ok(cu.cuMemGetInfo())[0] == 512
    last = ok(cu.cuMemAlloc(1))
    refused(cu.cuMemAlloc(1), "OUT_OF_MEMORY")
    ok(cu.cuMemFree(last))
    ok(cu.cuMemFree(most))
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB
    refused(cu.cuMemAlloc(64 * MIB + 1), "OUT_OF_MEMORY")
    refused(cu.cuMemAlloc(1 << 60), "OUT_OF_MEMORY")
    refused(cu.cuMemAlloc(0), "INVALID_VALUE")


@software_gpu(memory_mib="64")
def test_fragmentation_costs_no_memory() -> None:
    primary()
    pieces = [ok(cu.cuMemAlloc(MIB)) for _ in range(64)]
    assert len({int(p) for p in pieces}) == 64
    assert all(int(p) % 512 == 0 for p in pieces)
    for piece in pieces[::2]:
        ok(cu.cuMemFree(piece))
    whole = ok(cu.cuMemAlloc(32 * MIB))
    assert ok(cu.cuMemGetInfo())[0] == 0
    ok(cu.cuMemFree(whole))


@software_gpu()
def test_only_what_was_allocated_is_freed() -> None:
    primary()
    address = ok(cu.cuMemAlloc(4096))
    refused(cu.cuMemFree(int(address) + 512), "INVALID_VALUE")
    ok(cu.cuMemFree(address))
    refused(cu.cuMemFree(address), "INVALID_VALUE")
    refused(cu.cuMemFree(12345), "INVALID_VALUE")
    ok(cu.cuMemFree(0))


@software_gpu(memory_mib="64", devices="2")
def test_memory_is_freed_whichever_context_is_current_or_none() -> None:
    """NVIDIA's driver tells by the address whose memory it is; numba's cuda.close() frees with no context current."""
    context = primary(1)
    free = ok(cu.cuMemGetInfo())[0]
    pieces = [ok(cu.cuMemAlloc(MIB)) for _ in range(3)]
    pieces.append(ok(cu.cuMemAllocManaged(MIB, 1)))
    ok(cu.cuCtxSetCurrent(None))
    ok(cu.cuMemFree(pieces[0]))
    ok(cu.cuMemFree(pieces[3]))
    refused(cu.cuMemFree(pieces[0]), "INVALID_VALUE")
    primary(0)
    ok(cu.cuMemFree(pieces[1]))
    ok(cu.cuDevicePrimaryCtxReset(0))
    ok(cu.cuMemFree(pieces[2]))
    ok(cu.cuCtxSetCurrent(context))
    assert ok(cu.cuMemGetInfo())[0] == free


@software_gpu()
def test_address_range_and_pitch() -> None:
    primary()
    address = ok(cu.cuMemAlloc(1000))
    base, size = ok(cu.cuMemGetAddressRange(int(address) + 999))
    assert (int(base), size) == (int(address), 1000)
    refused(cu.cuMemGetAddressRange(int(address) + 1000), "NOT_FOUND")
    rows, pitch = ok(cu.cuMemAllocPitch(1000, 7, 4))
    assert pitch % 512 == 0
    assert pitch >= 1000
    assert ok(cu.cuMemGetAddressRange(rows))[1] == pitch * 7
    refused(cu.cuMemAllocPitch(1000, 7, 3), "INVALID_VALUE")


@software_gpu()
def test_copies_in_every_direction() -> None:
    primary()
    values = np.arange(4096, dtype=np.uint32)
    first = upload(values)
    second = ok(cu.cuMemAlloc(values.nbytes))
    ok(cu.cuMemcpyDtoD(second, first, values.nbytes))
    assert (download(second, 4096, np.uint32) == values).all()
    ok(cu.cuMemsetD8(second, 0, values.nbytes))
    ok(cu.cuMemcpy(second, values.ctypes.data, values.nbytes))
    result = np.zeros_like(values)
    ok(cu.cuMemcpy(result.ctypes.data, second, values.nbytes))
    assert (result == values).all()
    other = np.zeros_like(values)
    ok(cu.cuMemcpy(other.ctypes.data, values.ctypes.data, values.nbytes))
    assert (other == values).all()


@software_gpu()
def test_copies_outside_an_allocation_are_refused() -> None:
    primary()
    host = np.zeros(8192, np.uint8)
    address = ok(cu.cuMemAlloc(4096))
    refused(cu.cuMemcpyHtoD(address, host.ctypes.data, 4097), "INVALID_VALUE")
    refused(cu.cuMemcpyHtoD(int(address) + 4000, host.ctypes.data, 97), "INVALID_VALUE")
    refused(cu.cuMemcpyDtoH(host.ctypes.data, 4096, 1), "INVALID_VALUE")
    refused(cu.cuMemcpyHtoD(address, 0, 16), "INVALID_VALUE")
    refused(cu.cuMemsetD8(address, 1, 4097), "INVALID_VALUE")
    refused(cu.cuMemsetD32(int(address) + 2, 1, 1), "INVALID_VALUE")
    ok(cu.cuMemcpyHtoD(address, host.ctypes.data, 0))
    ok(cu.cuMemFree(address))
    refused(cu.cuMemcpyDtoH(host.ctypes.data, address, 1), "INVALID_VALUE")


@software_gpu()
def test_sets_of_every_width_and_two_dimensions() -> None:
    primary()
    address = ok(cu.cuMemAlloc(4096))
    ok(cu.cuMemsetD8(address, 0xAB, 4096))
    ok(cu.cuMemsetD16(int(address) + 16, 0x1234, 4))
    ok(cu.cuMemsetD32(int(address) + 64, 0xDEADBEEF, 4))
    ok(cu.cuMemsetD2D8(int(address) + 1024, 256, 7, 100, 3))
    ok(cu.cuMemsetD2D32(int(address) + 2048, 128, 9, 5, 4))
    wanted = np.full(4096, 0xAB, np.uint8)
    wanted[16:24] = np.full(4, 0x1234, np.uint16).view(np.uint8)
    wanted[64:80] = np.full(4, 0xDEADBEEF, np.uint32).view(np.uint8)
    for row in range(3):
        wanted[1024 + row * 256 : 1124 + row * 256] = 7
    for row in range(4):
        wanted[2048 + row * 128 : 2068 + row * 128] = np.full(5, 9, np.uint32).view(np.uint8)
    assert (download(address, 4096) == wanted).all()


@software_gpu(memory_mib="64")
def test_sizes_beyond_64_bits_are_refused() -> None:
    """What overflows when it is rounded up, multiplied or added is an error, not a smaller number."""
    primary()
    everything = 2**64 - 1
    stream = ok(cu.cuStreamCreate(0))
    refused(cu.cuMemAlloc(everything), "OUT_OF_MEMORY")
    refused(cu.cuMemAllocManaged(everything, 1), "OUT_OF_MEMORY")
    for size in (everything, everything - 510, 1 << 63, 65 * MIB):
        refused(cu.cuMemAllocAsync(size, stream), "OUT_OF_MEMORY")
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB
    address = ok(cu.cuMemAlloc(4096))
    host = np.zeros(4096, np.uint8)
    for pitch, height in ((everything, 2), (everything - 15, 2), (1 << 63, 3), (1 << 32, (1 << 32) + 1)):
        refused(cu.cuMemsetD2D8(address, pitch, 1, 16, height), "INVALID_VALUE")
        refused(cu.cuMemsetD2D16(address, pitch, 1, 8, height), "INVALID_VALUE")
        refused(cu.cuMemsetD2D32(address, pitch, 1, 4, height), "INVALID_VALUE")
        refused(cu.cuMemsetD2D32Async(address, pitch, 1, 4, height, stream), "INVALID_VALUE")
        plane = cu.CUDA_MEMCPY2D()
        plane.srcMemoryType, plane.srcHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, host.ctypes.data
        plane.dstMemoryType, plane.dstDevice = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE, address
        plane.WidthInBytes, plane.Height, plane.dstPitch = 16, height, pitch
        refused(cu.cuMemcpy2D(plane), "INVALID_VALUE")
    refused(cu.cuMemsetD32(address, 1, 1 << 62), "INVALID_VALUE")
    refused(cu.cuMemsetD8(int(address) + 1, 1, everything), "INVALID_VALUE")
    refused(cu.cuMemcpyHtoD(address, host.ctypes.data, everything), "INVALID_VALUE")
    refused(cu.cuMemcpyDtoD(address, int(address) + 1, everything), "INVALID_VALUE")
    for width, rows, depth in ((1 << 32, 1 << 32, 1), (16, 1 << 60, 1), (1 << 22, 1 << 21, 1 << 21)):
        box = cu.CUDA_MEMCPY3D()
        box.srcMemoryType, box.srcHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, host.ctypes.data
        box.dstMemoryType, box.dstDevice = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE, address
        box.WidthInBytes, box.Height, box.Depth = width, rows, depth
        refused(cu.cuMemcpy3D(box), "INVALID_VALUE")


@software_gpu()
def test_copies_that_run_over_an_array_are_refused() -> None:
    primary()
    form = cu.CUDA_ARRAY_DESCRIPTOR()
    form.Width, form.Format, form.NumChannels = 64, cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8, 1
    array = ok(cu.cuArrayCreate(form))
    host = np.zeros(64, np.uint8)
    ok(cu.cuMemcpyHtoA(array, 60, host.ctypes.data, 4))
    for offset, count in ((60, 5), (65, 0xFFFFFFFF), (2**64 - 1, 2), (2**64 - 2, 3)):
        refused(cu.cuMemcpyHtoA(array, offset, host.ctypes.data, count), "INVALID_VALUE")
        refused(cu.cuMemcpyAtoH(host.ctypes.data, array, offset, count), "INVALID_VALUE")


@software_gpu()
def test_copies_of_two_and_three_dimensions() -> None:
    primary()
    source = np.arange(6 * 5 * 40, dtype=np.uint8).reshape(6, 5, 40)
    pitched, pitch = ok(cu.cuMemAllocPitch(40, 5 * 6, 4))
    box = cu.CUDA_MEMCPY3D()
    box.srcMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_HOST
    box.srcHost = source.ctypes.data
    box.srcPitch, box.srcHeight = 40, 5
    box.srcXInBytes, box.srcY, box.srcZ = 3, 1, 2
    box.dstMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    box.dstDevice = pitched
    box.dstPitch, box.dstHeight = pitch, 5
    box.dstXInBytes, box.dstY, box.dstZ = 1, 2, 3
    box.WidthInBytes, box.Height, box.Depth = 10, 3, 3
    ok(cu.cuMemsetD8(pitched, 0, pitch * 30))
    ok(cu.cuMemcpy3D(box))
    wanted = np.zeros((6, 5, pitch), np.uint8)
    wanted[3:6, 2:5, 1:11] = source[2:5, 1:4, 3:13]
    assert (download(pitched, pitch * 30).reshape(6, 5, pitch) == wanted).all()

    plane = cu.CUDA_MEMCPY2D()
    plane.srcMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_UNIFIED
    plane.srcDevice = pitched
    plane.srcPitch = pitch
    plane.srcY = 3 * 5 + 2
    plane.dstMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_HOST
    result = np.zeros((3, 16), np.uint8)
    plane.dstHost = result.ctypes.data
    plane.dstPitch = 16
    plane.WidthInBytes, plane.Height = 12, 3
    ok(cu.cuMemcpy2D(plane))
    assert (result[:, :12] == wanted[3, 2:5, :12]).all()
    assert (result[:, 12:] == 0).all()


@software_gpu()
def test_arrays_hold_what_is_copied() -> None:
    primary()
    form = cu.CUDA_ARRAY_DESCRIPTOR()
    form.Width, form.Height = 33, 7
    form.Format, form.NumChannels = cu.CUarray_format.CU_AD_FORMAT_FLOAT, 2
    array = ok(cu.cuArrayCreate(form))
    told = ok(cu.cuArrayGetDescriptor(array))
    assert (told.Width, told.Height, told.NumChannels) == (33, 7, 2)
    values = np.arange(33 * 7 * 2, dtype=np.float32).reshape(7, 66)
    plane = cu.CUDA_MEMCPY2D()
    plane.srcMemoryType, plane.srcHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, values.ctypes.data
    plane.srcPitch = 66 * 4
    plane.dstMemoryType, plane.dstArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
    plane.WidthInBytes, plane.Height = 66 * 4, 7
    ok(cu.cuMemcpy2D(plane))
    back = np.zeros((7, 66), np.float32)
    plane = cu.CUDA_MEMCPY2D()
    plane.srcMemoryType, plane.srcArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
    plane.dstMemoryType, plane.dstHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, back.ctypes.data
    plane.dstPitch = 66 * 4
    plane.WidthInBytes, plane.Height = 66 * 4, 7
    ok(cu.cuMemcpy2D(plane))
    assert (back == values).all()
    plane.Height = 8
    refused(cu.cuMemcpy2D(plane), "INVALID_VALUE")
    ok(cu.cuArrayDestroy(array))
    refused(cu.cuArrayDestroy(array), "INVALID_HANDLE")


@software_gpu(memory_mib="64")
def test_arrays_and_managed_memory_count() -> None:
    primary()
    form = cu.CUDA_ARRAY3D_DESCRIPTOR()
    form.Width, form.Height, form.Depth = 512, 512, 4
    form.Format, form.NumChannels = cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8, 4
    array = ok(cu.cuArray3DCreate(form))
    managed = ok(cu.cuMemAllocManaged(10 * MIB, cu.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value))
    assert ok(cu.cuMemGetInfo())[0] == (64 - 4 - 10) * MIB
    ok(cu.cuArrayDestroy(array))
    ok(cu.cuMemFree(managed))
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB


@software_gpu()
def test_pinned_and_registered_memory() -> None:
    primary()
    pinned = ok(cu.cuMemHostAlloc(1000, 0))
    assert ok(cu.cuMemHostGetFlags(pinned)) == cu.CU_MEMHOSTALLOC_DEVICEMAP
    assert int(ok(cu.cuMemHostGetDevicePointer(pinned, 0))) == int(pinned)
    ctypes.memset(int(pinned), 5, 1000)
    address = ok(cu.cuMemAlloc(1000))
    ok(cu.cuMemcpyHtoD(address, pinned, 1000))
    assert (download(address, 1000) == 5).all()

    # Not of the allocator: a sanitizer's gives out the same addresses in every process.
    mine = mmap.mmap(-1, 3 * 4096)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mine)) + 100
    ok(cu.cuMemHostRegister(begin, 5000, 0))
    refused(cu.cuMemHostRegister(begin + 4999, 10, 0), "HOST_MEMORY_ALREADY_REGISTERED")
    refused(cu.cuMemHostRegister(4096, 4096, 0), "INVALID_VALUE")  # no address that a system gives
    assert int(ok(cu.cuMemHostGetDevicePointer(begin + 7, 0))) == begin + 7
    refused(cu.cuMemHostUnregister(pinned), "INVALID_VALUE")
    refused(cu.cuMemHostUnregister(begin + 1), "INVALID_VALUE")
    ok(cu.cuMemHostUnregister(begin))
    refused(cu.cuMemHostUnregister(begin), "HOST_MEMORY_NOT_REGISTERED")
    refused(cu.cuMemFreeHost(begin), "INVALID_VALUE")
    refused(cu.cuMemHostGetDevicePointer(begin, 0), "INVALID_VALUE")
    ok(cu.cuMemFreeHost(pinned))


@software_gpu()
def test_registered_memory_that_is_gone_harms_nobody() -> None:
    primary()
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype, system.mmap.argtypes = ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4]
    system.munmap.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
    length = 40 * 4096
    place = system.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    ok(cu.cuMemHostRegister(place, length, 0))
    ctypes.memset(place, 3, length)
    device = int(ok(cu.cuMemHostGetDevicePointer(place, 0)))
    target = ok(cu.cuMemAlloc(length))
    ok(cu.cuMemcpy(target, device, length))
    assert (download(target, length) == 3).all()
    # The middle goes, without a word to CUDA; what is left goes on being shared.
    assert system.munmap(place + 16 * 4096, 8 * 4096) == 0
    time.sleep(0.05)  # forwarding looks at it every 2 ms
    ctypes.memset(place, 4, 16 * 4096)
    ctypes.memset(place + 24 * 4096, 5, 16 * 4096)
    ok(cu.cuMemcpy(target, device, 16 * 4096))
    ok(cu.cuMemcpy(int(target) + 24 * 4096, device + 24 * 4096, 16 * 4096))
    seen = download(target, length)
    assert (seen[: 16 * 4096] == 4).all()
    assert (seen[24 * 4096 :] == 5).all()
    ok(cu.cuMemHostUnregister(place))
    assert system.munmap(place, length) == 0
    ok(cu.cuCtxSynchronize())


@software_gpu(devices="2")
def test_pointer_attributes_tell_the_truth() -> None:
    context = primary(1)
    attribute = cu.CUpointer_attribute
    device = ok(cu.cuMemAlloc(1000))
    managed = ok(cu.cuMemAllocManaged(1000, 1))
    pinned = ok(cu.cuMemHostAlloc(1000, 0))
    pageable = np.zeros(10).ctypes.data

    def get(which: cu.CUpointer_attribute, address: int) -> object:
        return ok(cu.cuPointerGetAttribute(which, address))

    kind = attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    assert get(kind, int(device) + 5) == cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    assert get(kind, managed) == cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    assert get(kind, int(pinned)) == cu.CUmemorytype.CU_MEMORYTYPE_HOST
    assert get(attribute.CU_POINTER_ATTRIBUTE_IS_MANAGED, managed)
    assert not get(attribute.CU_POINTER_ATTRIBUTE_IS_MANAGED, device)
    assert get(attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, device) == 1
    assert int(get(attribute.CU_POINTER_ATTRIBUTE_CONTEXT, device)) == int(context)
    assert int(get(attribute.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, int(device) + 5)) == int(device)
    assert get(attribute.CU_POINTER_ATTRIBUTE_RANGE_SIZE, int(device) + 5) == 1000
    ids = {get(attribute.CU_POINTER_ATTRIBUTE_BUFFER_ID, int(p)) for p in (device, managed, pinned)}
    assert len(ids) == 3
    refused(cu.cuPointerGetAttribute(attribute.CU_POINTER_ATTRIBUTE_HOST_POINTER, device), "INVALID_VALUE")
    refused(cu.cuPointerGetAttribute(kind, pageable), "INVALID_VALUE")
    wanted = [kind, attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL]
    values = ok(cu.cuPointerGetAttributes(2, wanted, pageable))
    assert int(values[0]) == 0
    assert int(values[1]) == -2


@software_gpu()
def test_managed_memory_remembers_advice() -> None:
    primary()
    size = 1 << 16
    managed = ok(cu.cuMemAllocManaged(size, 1))
    (ctypes.c_ubyte * size).from_address(int(managed))[size - 1] = 77
    assert download(int(managed) + size - 1, 1)[0] == 77
    here = cu.CUmemLocation()
    here.type, here.id = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, 0
    ok(cu.cuMemAdvise(managed, size, cu.CUmem_advise.CU_MEM_ADVISE_SET_READ_MOSTLY, here))
    ok(cu.cuMemAdvise(managed, size, cu.CUmem_advise.CU_MEM_ADVISE_SET_PREFERRED_LOCATION, here))
    ok(cu.cuMemPrefetchAsync(managed, size, here, 0, 0))
    ok(cu.cuCtxSynchronize())
    get = cu.CUmem_range_attribute
    assert ok(cu.cuMemRangeGetAttribute(4, get.CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, managed, size)) == 1
    assert ok(cu.cuMemRangeGetAttribute(4, get.CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, managed, size)) == 0
    assert ok(cu.cuMemRangeGetAttribute(4, get.CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, managed, size)) == 0
    refused(cu.cuMemPrefetchAsync(int(managed) + 1, size, here, 0, 0), "INVALID_VALUE")
    ok(cu.cuMemFree(managed))


@software_gpu(memory_mib="64")
def test_memory_goes_with_its_context() -> None:
    ok(cu.cuInit(0))
    ok(cu.cuDevicePrimaryCtxRetain(0))
    context = ok(cu.cuCtxCreate(None, 0, 0))
    address = ok(cu.cuMemAlloc(10 * MIB))
    pinned = ok(cu.cuMemHostAlloc(1000, 0))
    stream = ok(cu.cuStreamCreate(0))
    ok(cu.cuCtxDestroy(context))
    primary()
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB
    refused(cu.cuMemFree(address), "INVALID_VALUE")
    refused(cu.cuMemFreeHost(pinned), "INVALID_VALUE")
    refused(cu.cuStreamSynchronize(stream), "INVALID_HANDLE")
