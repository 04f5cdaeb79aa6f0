"""What the driver tells about itself: its log, notifications, where memory is, and what it refuses."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

SIZE = 1 << 20


def log_since(iterator: int, room: int = 25600) -> str:
    buffer = b"\0" * room
    _, size = ok(cu.cuLogsDumpToMemory(cu.CUlogIterator(iterator), buffer, room, 0))
    return buffer[:size].decode()


@software_gpu()
def test_the_log_names_the_calls_that_failed() -> None:
    primary()
    before = int(ok(cu.cuLogsCurrent(0)))
    assert log_since(before) == ""
    refused(cu.cuMemAlloc(0), "INVALID_VALUE")
    refused(cu.cuMemFree(0x1234), "INVALID_VALUE")
    lines = log_since(before).splitlines()
    assert len(lines) == 2
    assert all("[CUDA][E]" in line and "CUDA_ERROR_INVALID_VALUE" in line for line in lines)
    assert "cuMemAlloc_v2" in lines[0]
    assert "cuMemFree_v2" in lines[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        after = ok(cu.cuLogsDumpToFile(cu.CUlogIterator(before), str(path).encode(), 0))
        assert path.read_text().splitlines() == lines
    assert int(after) == int(ok(cu.cuLogsCurrent(0)))
    # The latest that fit, and that there were others.
    room = len(lines[1]) + 50
    short = log_since(before, room).splitlines()
    assert short[1:] == lines[1:]
    assert "no longer there" in short[0]
    refused(cu.cuLogsDumpToMemory(cu.CUlogIterator(before), b"\0" * 8, 8, 0), "INVALID_VALUE")
    # It forgets the oldest.
    for _ in range(150):
        refused(cu.cuMemAlloc(0), "INVALID_VALUE")
    assert len(log_since(before).splitlines()) == 101


@software_gpu()
def test_callbacks_hear_what_the_log_gets() -> None:
    primary()
    library = ctypes.CDLL("libcuda.so.1")
    heard = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    def hear(data: int, level: int, message: int, length: int) -> None:
        heard.append((data, level, ctypes.string_at(message, length).decode()))

    handle = ctypes.c_void_p()
    assert library.cuLogsRegisterCallback(hear, ctypes.c_void_p(77), ctypes.byref(handle)) == 0
    refused(cu.cuMemAlloc(0), "INVALID_VALUE")
    assert library.cuLogsUnregisterCallback(handle) == 0
    refused(cu.cuMemAlloc(0), "INVALID_VALUE")
    assert [(data, level) for data, level, _ in heard] == [(77, 0)]
    assert "cuMemAlloc_v2" in heard[0][2]
    assert library.cuLogsUnregisterCallback(handle) == 1
    assert library.cuLogsRegisterCallback(None, None, ctypes.byref(handle)) == 1


@software_gpu(devices="2")
def test_notifications_are_registered_by_device() -> None:
    primary()
    library = ctypes.CDLL("libcuda.so.1")
    never = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: None)
    handle = ctypes.c_void_p()
    register, unregister = library.cuDeviceRegisterAsyncNotification, library.cuDeviceUnregisterAsyncNotification
    assert register(7, never, None, ctypes.byref(handle)) == 101
    assert register(0, None, None, ctypes.byref(handle)) == 1
    assert register(1, never, None, ctypes.byref(handle)) == 0
    assert unregister(0, handle) == 1
    assert unregister(1, handle) == 0
    assert unregister(1, handle) == 1


@software_gpu()
def test_where_managed_memory_is() -> None:
    primary()
    managed = ok(cu.cuMemAllocManaged(SIZE, 1))
    kinds = cu.CUmemLocationType
    there = cu.CUmemLocation()
    there.type, there.id = kinds.CU_MEM_LOCATION_TYPE_DEVICE, 0
    stream = ok(cu.cuStreamCreate(1))
    sizes = [SIZE // 2, SIZE // 2]
    places = [managed, cu.CUdeviceptr(int(managed) + SIZE // 2)]
    ok(cu.cuMemDiscardAndPrefetchBatchAsync(places, sizes, 2, [there], [0], 1, 0, stream))
    ok(cu.cuMemDiscardBatchAsync(places, sizes, 2, 0, stream))
    ok(cu.cuStreamSynchronize(stream))
    library = ctypes.CDLL("libcuda.so.1")
    found = (ctypes.c_int * 8)()
    c = ctypes.c_uint64
    assert library.cuMemGetLocationInfo(c(int(managed)), c(SIZE), c(SIZE // 3), c(0), found) == 0
    device = kinds.CU_MEM_LOCATION_TYPE_DEVICE.value
    assert list(found) == [device, 0] * 4
    assert library.cuMemGetLocationInfo(c(int(managed)), c(SIZE), c(2 * SIZE), c(0), found) == 1
    assert library.cuMemGetLocationInfo(c(int(managed)), c(SIZE), c(0), c(0), found) == 1
    refused(cu.cuMemDiscardBatchAsync(places, [SIZE, SIZE], 2, 0, stream), "INVALID_VALUE")
    refused(cu.cuMemDiscardBatchAsync(places, sizes, 2, 1, stream), "INVALID_VALUE")
    plain = ok(cu.cuMemAlloc(SIZE))
    refused(cu.cuMemDiscardBatchAsync([plain], [SIZE], 1, 0, stream), "INVALID_VALUE")


@software_gpu()
def test_what_belongs_to_another_machine_is_refused_as_by_a_driver_without_it() -> None:
    primary()
    memory = cu.CUDA_EXTERNAL_MEMORY_HANDLE_DESC()
    memory.type = cu.CUexternalMemoryHandleType.CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD
    memory.size = SIZE
    refused(cu.cuImportExternalMemory(memory), "NOT_SUPPORTED")
    refused(cu.cuDestroyExternalMemory(cu.CUexternalMemory(0x1234)), "INVALID_HANDLE")
    refused(cu.cuGraphicsUnregisterResource(cu.CUgraphicsResource(0x1234)), "INVALID_HANDLE")
    refused(cu.cuCheckpointProcessGetState(1), "NOT_SUPPORTED")
    attribute = cu.CUdevice_attribute
    for name in ("DMA_BUF", "D3D12_CIG", "VULKAN_CIG", "TIMELINE_SEMAPHORE_INTEROP", "MULTICAST"):
        assert ok(cu.cuDeviceGetAttribute(getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}_SUPPORTED"), 0)) == 0
    library = ctypes.CDLL("libcuda.so.1")
    assert library.cuMemAlloc(None, 64) == cu.CUresult.CUDA_ERROR_INVALID_CONTEXT.value
    assert library.cuProfilerInitialize(None, None, 0) == cu.CUresult.CUDA_ERROR_NOT_SUPPORTED.value
