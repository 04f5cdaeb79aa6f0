"""Mapped memory (cuMemCreate), pools, and memory and events shared between processes."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

MIB = 1 << 20
PINNED = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
ON_DEVICE = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
DESCRIPTOR = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR


def properties(device: int = 0, exportable: bool = False) -> cu.CUmemAllocationProp:
    wanted = cu.CUmemAllocationProp()
    wanted.type = PINNED
    wanted.location.type, wanted.location.id = ON_DEVICE, device
    if exportable:
        wanted.requestedHandleTypes = DESCRIPTOR
    return wanted


def access(device: int = 0, flags: int = 3) -> cu.CUmemAccessDesc:
    wanted = cu.CUmemAccessDesc()
    wanted.location.type, wanted.location.id = ON_DEVICE, device
    wanted.flags = cu.CUmemAccess_flags(flags)
    return wanted


def fill(address: int, value: int, size: int) -> None:
    ok(cu.cuMemsetD8(address, value, size))


def first_bytes(address: int, count: int = 16) -> set[int]:
    values = np.zeros(count, np.uint8)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, address, count))
    return set(values.tolist())


def bytes_of(handle: object) -> bytes:
    """The 64 opaque bytes of an IPC handle or of exported pool data."""
    return ctypes.string_at(handle.getPtr(), 64)


def from_bytes(kind: type, content: bytes) -> object:
    handle = kind()
    ctypes.memmove(handle.getPtr(), content, 64)
    return handle


def in_child(code: str, *handles: int) -> None:
    """Run code in another process that sees the same device; it must succeed."""
    prelude = "from cuda.bindings import driver as cu; from driver_case import *; primary();"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        pass_fds=handles,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@software_gpu(memory_mib="64")
def test_one_allocation_at_two_addresses() -> None:
    primary()
    assert ok(cu.cuMemGetAllocationGranularity(properties(), cu.CUmemAllocationGranularity_flags(0))) == 2 * MIB
    memory = ok(cu.cuMemCreate(4 * MIB, properties(), 0))
    assert ok(cu.cuMemGetInfo())[0] == 60 * MIB
    here, there = (
        int(ok(cu.cuMemAddressReserve(8 * MIB, 0, 0, 0))),
        int(ok(cu.cuMemAddressReserve(2 * MIB, 4 * MIB, 0, 0))),
    )
    assert there % (4 * MIB) == 0
    ok(cu.cuMemMap(here + 2 * MIB, 4 * MIB, 0, memory, 0))
    ok(cu.cuMemMap(there, 2 * MIB, 2 * MIB, memory, 0))
    flags = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_ACCESS_FLAGS
    assert int(ok(cu.cuPointerGetAttribute(flags, there))) == 0
    ok(cu.cuMemSetAccess(here + 2 * MIB, 4 * MIB, [access()], 1))
    ok(cu.cuMemSetAccess(there, 2 * MIB, [access(flags=1)], 1))
    assert int(ok(cu.cuPointerGetAttribute(flags, there))) == 1
    assert ok(cu.cuMemGetAccess(access().location, here + 2 * MIB)) == 3
    fill(here + 4 * MIB, 42, 100)
    assert first_bytes(there, 100) == {42}
    refused(cu.cuMemMap(here + 4 * MIB, 2 * MIB, 0, memory, 0), "INVALID_VALUE")
    refused(cu.cuMemMap(here + 7 * MIB, 2 * MIB, 0, memory, 0), "INVALID_VALUE")
    refused(cu.cuMemMap(here, 2 * MIB, 4 * MIB, memory, 0), "INVALID_VALUE")
    refused(cu.cuMemcpyDtoD(here, here + 2 * MIB, 16), "INVALID_VALUE")
    refused(cu.cuMemAddressFree(here, 8 * MIB), "INVALID_VALUE")
    refused(cu.cuMemUnmap(here + 2 * MIB, 2 * MIB), "INVALID_VALUE")
    ok(cu.cuMemRelease(memory))
    again = ok(cu.cuMemRetainAllocationHandle(there))
    assert ok(cu.cuMemGetAllocationPropertiesFromHandle(again)).location.id == 0
    ok(cu.cuMemRelease(again))
    assert ok(cu.cuMemGetInfo())[0] == 60 * MIB
    ok(cu.cuMemUnmap(here + 2 * MIB, 4 * MIB))
    ok(cu.cuMemUnmap(there, 2 * MIB))
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB
    ok(cu.cuMemAddressFree(here, 8 * MIB))
    ok(cu.cuMemAddressFree(there, 2 * MIB))
    refused(cu.cuMemAddressFree(there, 2 * MIB), "INVALID_VALUE")


@software_gpu(memory_mib="64")
def test_mappings_grow_in_place() -> None:
    primary()
    base = int(ok(cu.cuMemAddressReserve(64 * MIB, 0, 0, 0)))
    for i in range(16):
        memory = ok(cu.cuMemCreate(2 * MIB, properties(), 0))
        ok(cu.cuMemMap(base + i * 2 * MIB, 2 * MIB, 0, memory, 0))
        ok(cu.cuMemRelease(memory))
    ok(cu.cuMemSetAccess(base, 32 * MIB, [access()], 1))
    fill(base, 9, 32 * MIB)
    assert first_bytes(base + 2 * MIB - 8) == {9}
    refused(cu.cuMemsetD8(base + 2 * MIB, 9, 31 * MIB), "INVALID_VALUE")
    refused(cu.cuMemCreate(34 * MIB, properties(), 0), "OUT_OF_MEMORY")
    refused(cu.cuMemCreate(MIB, properties(), 0), "INVALID_VALUE")
    ok(cu.cuMemUnmap(base, 32 * MIB))
    assert ok(cu.cuMemGetInfo())[0] == 64 * MIB


@software_gpu(memory_mib="64")
def test_exported_memory_in_another_process() -> None:
    primary()
    plain = ok(cu.cuMemCreate(2 * MIB, properties(), 0))
    refused(cu.cuMemExportToShareableHandle(plain, DESCRIPTOR, 0), "INVALID_VALUE")
    memory = ok(cu.cuMemCreate(2 * MIB, properties(exportable=True), 0))
    address = int(ok(cu.cuMemAddressReserve(2 * MIB, 0, 0, 0)))
    ok(cu.cuMemMap(address, 2 * MIB, 0, memory, 0))
    ok(cu.cuMemSetAccess(address, 2 * MIB, [access()], 1))
    fill(address, 5, 2 * MIB)
    descriptor = int(ok(cu.cuMemExportToShareableHandle(memory, DESCRIPTOR, 0)))
    os.set_inheritable(descriptor, True)
    in_child(
        f"""
from test_driver_sharing import *
memory = ok(cu.cuMemImportFromShareableHandle({descriptor}, DESCRIPTOR))
address = int(ok(cu.cuMemAddressReserve(2 * MIB, 0, 0, 0)))
ok(cu.cuMemMap(address, 2 * MIB, 0, memory, 0))
ok(cu.cuMemSetAccess(address, 2 * MIB, [access()], 1))
assert first_bytes(address) == {{5}}
fill(address, 6, 100)
refused(cu.cuMemImportFromShareableHandle(0, DESCRIPTOR), "INVALID_VALUE")
""",
        descriptor,
    )
    assert first_bytes(address, 100) == {6}


@software_gpu(memory_mib="128")
def test_pools_keep_and_return_memory() -> None:
    primary()
    pool = ok(cu.cuDeviceGetDefaultMemPool(0))
    assert int(ok(cu.cuDeviceGetMemPool(0))) == int(pool)
    attribute = cu.CUmemPool_attribute

    def get(which: cu.CUmemPool_attribute) -> int:
        return int(ok(cu.cuMemPoolGetAttribute(pool, which)))

    stream = ok(cu.cuStreamCreate(1))
    a = ok(cu.cuMemAllocAsync(1000, stream))
    b = ok(cu.cuMemAllocAsync(40 * MIB, stream))
    used = get(attribute.CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    assert 1000 + 40 * MIB <= used <= get(attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
    assert ok(cu.cuMemGetInfo())[0] == 128 * MIB - get(attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
    ok(cu.cuMemPoolSetAttribute(pool, attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, cu.cuuint64_t(1 << 40)))
    ok(cu.cuMemFreeAsync(a, stream))
    ok(cu.cuMemFreeAsync(b, stream))
    refused(cu.cuMemFreeAsync(b, stream), "INVALID_VALUE")
    ok(cu.cuStreamSynchronize(stream))
    assert get(attribute.CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0
    assert get(attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) > 0
    ok(cu.cuMemPoolSetAttribute(pool, attribute.CU_MEMPOOL_ATTR_USED_MEM_HIGH, cu.cuuint64_t(0)))
    assert get(attribute.CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 0
    ok(cu.cuMemPoolTrimTo(pool, 0))
    assert get(attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0
    assert ok(cu.cuMemGetInfo())[0] == 128 * MIB
    # More than there is at once, but never at once: the pool waits for frees on their way.
    for _ in range(20):
        ok(cu.cuMemFreeAsync(ok(cu.cuMemAllocAsync(60 * MIB, stream)), stream))
    refused(cu.cuMemAllocAsync(200 * MIB, stream), "OUT_OF_MEMORY")
    refused(cu.cuMemAllocAsync(0, stream), "INVALID_VALUE")
    refused(cu.cuMemPoolDestroy(pool), "INVALID_VALUE")


@software_gpu(devices="2", memory_mib="64")
def test_pools_of_ones_own() -> None:
    primary(1)
    wanted = cu.CUmemPoolProps()
    wanted.allocType = PINNED
    wanted.location.type, wanted.location.id = ON_DEVICE, 0
    wanted.maxSize = 8 * MIB
    pool = ok(cu.cuMemPoolCreate(wanted))
    address = ok(cu.cuMemAllocFromPoolAsync(MIB, pool, 0))
    refused(cu.cuMemAllocFromPoolAsync(16 * MIB, pool, 0), "OUT_OF_MEMORY")
    flags = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_ACCESS_FLAGS
    assert int(ok(cu.cuPointerGetAttribute(flags, address))) == 0
    ok(cu.cuMemPoolSetAccess(pool, [access(1)], 1))
    assert int(ok(cu.cuPointerGetAttribute(flags, address))) == 3
    refused(cu.cuMemPoolSetAccess(pool, [access(0, 0)], 1), "INVALID_VALUE")
    refused(cu.cuDeviceSetMemPool(1, pool), "INVALID_VALUE")
    ok(cu.cuDeviceSetMemPool(0, pool))
    ok(cu.cuMemPoolDestroy(pool))
    assert int(ok(cu.cuDeviceGetMemPool(0))) == int(ok(cu.cuDeviceGetDefaultMemPool(0)))
    fill(address, 1, MIB)
    ok(cu.cuMemFree(address))


@software_gpu(memory_mib="64")
def test_an_exported_pool_in_another_process() -> None:
    primary()
    wanted = cu.CUmemPoolProps()
    wanted.allocType, wanted.handleTypes = PINNED, DESCRIPTOR
    wanted.location.type, wanted.location.id = ON_DEVICE, 0
    pool = ok(cu.cuMemPoolCreate(wanted))
    address = ok(cu.cuMemAllocFromPoolAsync(5000, pool, 0))
    fill(int(address), 8, 5000)
    descriptor = int(ok(cu.cuMemPoolExportToShareableHandle(pool, DESCRIPTOR, 0)))
    os.set_inheritable(descriptor, True)
    piece = bytes_of(ok(cu.cuMemPoolExportPointer(address)))
    in_child(
        f"""
from test_driver_sharing import *
pool = ok(cu.cuMemPoolImportFromShareableHandle({descriptor}, DESCRIPTOR, 0))
piece = from_bytes(cu.CUmemPoolPtrExportData, {piece!r})
address = int(ok(cu.cuMemPoolImportPointer(pool, piece)))
assert first_bytes(address, 5000) == {{8}}
fill(address, 9, 5000)
refused(cu.cuMemAllocFromPoolAsync(100, pool, 0), "NOT_SUPPORTED")
ok(cu.cuMemFreeAsync(address, 0))
ok(cu.cuCtxSynchronize())
""",
        descriptor,
    )
    assert first_bytes(int(address), 5000) == {9}


@software_gpu()
def test_memory_by_ipc_handle() -> None:
    primary()
    ok(cu.cuMemAlloc(12345))
    address = int(ok(cu.cuMemAlloc(10000)))
    fill(address, 3, 10000)
    handle = ok(cu.cuIpcGetMemHandle(address))
    refused(cu.cuIpcOpenMemHandle(handle, 1), "INVALID_CONTEXT")
    refused(cu.cuIpcGetMemHandle(int(ok(cu.cuMemHostAlloc(100, 0)))), "INVALID_VALUE")
    in_child(
        f"""
from test_driver_sharing import *
handle = from_bytes(cu.CUipcMemHandle, {bytes_of(handle)!r})
address = int(ok(cu.cuIpcOpenMemHandle(handle, 1)))
assert int(ok(cu.cuIpcOpenMemHandle(handle, 1))) == address
assert first_bytes(address, 10000) == {{3}}
fill(address, 4, 10000)
refused(cu.cuMemFree(address), "INVALID_VALUE")
ok(cu.cuIpcCloseMemHandle(address))
assert first_bytes(address, 1) == {{4}}
ok(cu.cuIpcCloseMemHandle(address))
refused(cu.cuMemcpyDtoD(address, address, 1), "INVALID_VALUE")
refused(cu.cuIpcOpenMemHandle(cu.CUipcMemHandle(), 1), "INVALID_VALUE")
"""
    )
    assert first_bytes(address, 10000) == {4}


@software_gpu()
def test_events_by_ipc_handle() -> None:
    primary()
    word = ctypes.c_uint32.from_address(int(ok(cu.cuMemHostAlloc(64, 0))))
    word.value = 0
    stream = ok(cu.cuStreamCreate(1))
    event = ok(cu.cuEventCreate(2 | 4))
    handle = ok(cu.cuIpcGetEventHandle(event))
    refused(cu.cuIpcGetEventHandle(ok(cu.cuEventCreate(0))), "INVALID_VALUE")
    ok(cu.cuStreamWaitValue32(stream, ctypes.addressof(word), 1, 0))
    ok(cu.cuEventRecord(event, stream))
    mine, theirs = socket.socketpair()
    code = f"""
import socket
from test_driver_sharing import *
talk = socket.socket(fileno={theirs.fileno()})
handle = from_bytes(cu.CUipcEventHandle, {bytes_of(handle)!r})
event = ok(cu.cuIpcOpenEventHandle(handle))
refused(cu.cuEventQuery(event), "NOT_READY")
talk.send(b"open")
ok(cu.cuEventSynchronize(event))
ok(cu.cuEventQuery(event))
ok(cu.cuEventRecord(event, 0))
ok(cu.cuStreamSynchronize(0))
"""
    prelude = "from cuda.bindings import driver as cu; from driver_case import *; primary();"
    child = subprocess.Popen([sys.executable, "-c", prelude + code], pass_fds=[theirs.fileno()])
    theirs.close()
    assert mine.recv(4) == b"open"
    word.value = 1
    assert child.wait(60) == 0
    ok(cu.cuEventQuery(event))
