"""Initialisation, devices, contexts, primary contexts, peers, fork."""

from __future__ import annotations

import os
import threading

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu


@software_gpu()
def test_nothing_works_before_initialisation() -> None:
    refused(cu.cuDeviceGetCount(), "NOT_INITIALIZED")
    refused(cu.cuCtxGetCurrent(), "NOT_INITIALIZED")
    refused(cu.cuMemAlloc(16), "NOT_INITIALIZED")
    assert ok(cu.cuDriverGetVersion()) >= 13000
    refused(cu.cuInit(1), "INVALID_VALUE")
    ok(cu.cuInit(0))
    ok(cu.cuInit(0))
    refused(cu.cuMemAlloc(16), "INVALID_CONTEXT")
    refused(cu.cuStreamCreate(0), "INVALID_CONTEXT")


@software_gpu(devices="3", name="Alpha,Beta,Gamma", memory_mib="100,200,300")
def test_devices_are_as_configured() -> None:
    ok(cu.cuInit(0))
    assert ok(cu.cuDeviceGetCount()) == 3
    for ordinal, name in enumerate(["Alpha", "Beta", "Gamma"]):
        device = ok(cu.cuDeviceGet(ordinal))
        assert ok(cu.cuDeviceGetName(64, device)).split(b"\0")[0].decode() == name
        assert ok(cu.cuDeviceTotalMem(device)) == (ordinal + 1) * 100 << 20
        bus = ok(cu.cuDeviceGetPCIBusId(64, device)).split(b"\0")[0]
        assert int(ok(cu.cuDeviceGetByPCIBusId(bus))) == ordinal
    assert len({ok(cu.cuDeviceGetUuid(i)).bytes for i in range(3)}) == 3
    refused(cu.cuDeviceGet(3), "INVALID_DEVICE")
    refused(cu.cuDeviceGet(-1), "INVALID_DEVICE")
    refused(cu.cuDeviceGetName(64, 17), "INVALID_DEVICE")


@software_gpu()
def test_the_stack_of_contexts() -> None:
    ok(cu.cuInit(0))
    assert int(ok(cu.cuCtxGetCurrent())) == 0
    refused(cu.cuCtxPopCurrent(), "INVALID_CONTEXT")
    first = ok(cu.cuCtxCreate(None, 0, 0))
    second = ok(cu.cuCtxCreate(None, 0, 0))
    assert int(ok(cu.cuCtxGetCurrent())) == int(second)
    ok(cu.cuCtxPushCurrent(first))
    assert int(ok(cu.cuCtxPopCurrent())) == int(first)
    assert int(ok(cu.cuCtxPopCurrent())) == int(second)
    assert int(ok(cu.cuCtxGetCurrent())) == int(first)
    ok(cu.cuCtxSetCurrent(second))
    assert int(ok(cu.cuCtxPopCurrent())) == int(second)
    refused(cu.cuCtxPopCurrent(), "INVALID_CONTEXT")
    ok(cu.cuCtxPushCurrent(first))
    ok(cu.cuCtxDestroy(first))
    assert int(ok(cu.cuCtxGetCurrent())) == 0
    refused(cu.cuCtxPushCurrent(first), "INVALID_CONTEXT")
    refused(cu.cuCtxDestroy(first), "INVALID_CONTEXT")
    ok(cu.cuCtxDestroy(second))


@software_gpu()
def test_a_context_destroyed_by_another_thread() -> None:
    ok(cu.cuInit(0))
    context = ok(cu.cuCtxCreate(None, 0, 0))
    thread = threading.Thread(target=lambda: ok(cu.cuCtxDestroy(context)))
    thread.start()
    thread.join()
    refused(cu.cuMemAlloc(16), "CONTEXT_IS_DESTROYED")
    refused(cu.cuCtxSynchronize(), "CONTEXT_IS_DESTROYED")


@software_gpu(memory_mib="64")
def test_the_primary_context_comes_and_goes() -> None:
    ok(cu.cuInit(0))
    assert ok(cu.cuDevicePrimaryCtxGetState(0))[1] == 0
    refused(cu.cuDevicePrimaryCtxRelease(0), "INVALID_CONTEXT")
    context = ok(cu.cuDevicePrimaryCtxRetain(0))
    assert int(ok(cu.cuDevicePrimaryCtxRetain(0))) == int(context)
    refused(cu.cuCtxDestroy(context), "INVALID_CONTEXT")
    ok(cu.cuCtxSetCurrent(context))
    before = ok(cu.cuCtxGetId(context))
    ok(cu.cuMemAlloc(1 << 20))
    ok(cu.cuDevicePrimaryCtxRelease(0))
    assert ok(cu.cuDevicePrimaryCtxGetState(0))[1] == 1
    ok(cu.cuDevicePrimaryCtxRelease(0))
    assert ok(cu.cuDevicePrimaryCtxGetState(0))[1] == 0
    refused(cu.cuMemAlloc(16), "CONTEXT_IS_DESTROYED")
    assert int(ok(cu.cuDevicePrimaryCtxRetain(0))) == int(context)
    assert ok(cu.cuCtxGetId(context)) != before
    assert ok(cu.cuMemGetInfo())[0] == 64 << 20
    event = ok(cu.cuEventCreate(0))
    ok(cu.cuDevicePrimaryCtxReset(0))
    assert ok(cu.cuDevicePrimaryCtxGetState(0))[1] == 0
    ok(cu.cuDevicePrimaryCtxRetain(0))
    refused(cu.cuEventQuery(event), "INVALID_HANDLE")


@software_gpu(memory_mib="64")
def test_who_retained_a_primary_context_releases_it_after_a_reset_too() -> None:
    """CUDA: "Resetting the primary context does not release it"; a library that retained it may release it safely."""

    def active() -> int:
        return int(ok(cu.cuDevicePrimaryCtxGetState(0))[1])

    ok(cu.cuInit(0))
    ok(cu.cuDevicePrimaryCtxReset(0))
    assert active() == 0
    context = ok(cu.cuDevicePrimaryCtxRetain(0))
    ok(cu.cuDevicePrimaryCtxRetain(0))
    ok(cu.cuCtxSetCurrent(context))
    ok(cu.cuMemAlloc(1 << 20))
    ok(cu.cuDevicePrimaryCtxReset(0))
    assert active() == 0
    refused(cu.cuMemAlloc(16), "CONTEXT_IS_DESTROYED")
    ok(cu.cuDevicePrimaryCtxReset(0))
    ok(cu.cuDevicePrimaryCtxRelease(0))  # the first of the two from before
    assert active() == 0
    assert int(ok(cu.cuDevicePrimaryCtxRetain(0))) == int(context)
    assert active() == 1
    assert ok(cu.cuMemGetInfo())[0] == 64 << 20
    place = ok(cu.cuMemAlloc(16))
    ok(cu.cuMemsetD32(place, 7, 4))
    ok(cu.cuDevicePrimaryCtxRelease(0))  # the second: the context is held by the one that retained it since
    assert active() == 1
    values = np.zeros(4, np.uint32)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, place, 16))
    assert (values == 7).all()
    ok(cu.cuDevicePrimaryCtxRelease(0))
    assert active() == 0
    refused(cu.cuMemAlloc(16), "CONTEXT_IS_DESTROYED")
    refused(cu.cuDevicePrimaryCtxRelease(0), "INVALID_CONTEXT")


@software_gpu()
def test_limits_and_settings() -> None:
    primary()
    limit = cu.CUlimit
    assert ok(cu.cuCtxGetLimit(limit.CU_LIMIT_PRINTF_FIFO_SIZE)) == 1 << 20
    ok(cu.cuCtxSetLimit(limit.CU_LIMIT_PRINTF_FIFO_SIZE, 4096))
    assert ok(cu.cuCtxGetLimit(limit.CU_LIMIT_PRINTF_FIFO_SIZE)) == 4096
    refused(cu.cuCtxSetLimit(limit.CU_LIMIT_STACK_SIZE, 1 << 30), "INVALID_VALUE")
    refused(cu.cuCtxGetLimit(limit.CU_LIMIT_MAX), "UNSUPPORTED_LIMIT")
    ok(cu.cuCtxSetCacheConfig(cu.CUfunc_cache.CU_FUNC_CACHE_PREFER_L1))
    assert ok(cu.cuCtxGetCacheConfig()) == cu.CUfunc_cache.CU_FUNC_CACHE_PREFER_L1


@software_gpu(devices="2")
def test_peer_access_is_switched_per_context() -> None:
    ok(cu.cuInit(0))
    assert ok(cu.cuDeviceCanAccessPeer(0, 1)) == 1
    assert ok(cu.cuDeviceCanAccessPeer(1, 1)) == 0
    here, there = ok(cu.cuDevicePrimaryCtxRetain(0)), ok(cu.cuDevicePrimaryCtxRetain(1))
    ok(cu.cuCtxSetCurrent(there))
    remote = ok(cu.cuMemAlloc(4096))
    ok(cu.cuMemsetD8(remote, 3, 4096))
    ok(cu.cuCtxSetCurrent(here))
    flags = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_ACCESS_FLAGS
    assert int(ok(cu.cuPointerGetAttribute(flags, remote))) == 0
    refused(cu.cuCtxDisablePeerAccess(there), "PEER_ACCESS_NOT_ENABLED")
    ok(cu.cuCtxEnablePeerAccess(there, 0))
    refused(cu.cuCtxEnablePeerAccess(there, 0), "PEER_ACCESS_ALREADY_ENABLED")
    assert int(ok(cu.cuPointerGetAttribute(flags, remote))) == 3
    local = ok(cu.cuMemAlloc(4096))
    ok(cu.cuMemcpyPeer(local, here, remote, there, 4096))
    values = np.zeros(4096, np.uint8)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, local, 4096))
    assert (values == 3).all()
    ok(cu.cuCtxDisablePeerAccess(there))
    refused(cu.cuCtxEnablePeerAccess(here, 0), "INVALID_CONTEXT")


@software_gpu(devices="2", memory_mib="64")
def test_devices_have_memory_of_their_own() -> None:
    primary(0)
    ok(cu.cuMemAlloc(40 << 20))
    primary(1)
    assert ok(cu.cuMemGetInfo())[0] == 64 << 20
    ok(cu.cuMemAlloc(60 << 20))
    primary(0)
    assert ok(cu.cuMemGetInfo())[0] == 24 << 20


@software_gpu()
def test_a_forked_child_is_refused_and_its_parent_untouched() -> None:
    primary()
    address = ok(cu.cuMemAlloc(4096))
    ok(cu.cuMemsetD8(address, 7, 4096))
    child = os.fork()
    if child == 0:
        codes = [cu.cuMemAlloc(16)[0], cu.cuInit(0)[0], cu.cuCtxSynchronize()[0], cu.cuCtxGetCurrent()[0]]
        os._exit(0 if all(int(code) == 3 for code in codes) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    values = np.zeros(4096, np.uint8)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, address, 4096))
    assert (values == 7).all()


@software_gpu()
def test_handles_of_the_wrong_kind_are_refused() -> None:
    context = primary()
    stream, event = ok(cu.cuStreamCreate(0)), ok(cu.cuEventCreate(0))
    refused(cu.cuEventRecord(int(stream), 0), "INVALID_HANDLE")
    refused(cu.cuStreamSynchronize(int(event)), "INVALID_HANDLE")
    refused(cu.cuCtxSetCurrent(int(stream)), "INVALID_CONTEXT")
    refused(cu.cuStreamWaitEvent(0, int(context), 0), "INVALID_HANDLE")
    for wild in (8, 0xDEADBEEF, (1 << 47) - 16, (1 << 64) - 16):
        refused(cu.cuStreamSynchronize(wild), "INVALID_HANDLE")
        refused(cu.cuEventQuery(wild), "INVALID_HANDLE")
        refused(cu.cuCtxPushCurrent(wild), "INVALID_CONTEXT")
        refused(cu.cuGraphDestroy(wild), "INVALID_VALUE")
        refused(cu.cuMemRelease(wild), "INVALID_VALUE")
        refused(cu.cuArrayDestroy(wild), "INVALID_HANDLE")
