"""Streams, events, host functions, stream memory operations: order, concurrency, errors.

A stream is held up with cuStreamWaitValue32 on a word of pinned memory, so that what may and may not run is certain.
"""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

GEQ = 0
NON_BLOCKING = 1
NO_TIMING = 2


class Gate:
    """A word that holds streams up until `open`."""

    def __init__(self) -> None:
        self.address = int(ok(cu.cuMemHostAlloc(64, 0)))
        self.word = ctypes.c_uint32.from_address(self.address)
        self.word.value = 0

    def hold(self, stream: object) -> None:
        ok(cu.cuStreamWaitValue32(stream, self.address, 1, GEQ))

    def open(self) -> None:
        self.word.value = 1


def pinned_words(count: int) -> tuple[int, np.ndarray]:
    address = int(ok(cu.cuMemHostAlloc(4 * count, 0)))
    words = np.ctypeslib.as_array((ctypes.c_uint32 * count).from_address(address))
    words[:] = 0
    return address, words


def read_word(address: object) -> int:
    word = np.zeros(1, np.uint32)
    ok(cu.cuMemcpyDtoH(word.ctypes.data, address, 4))
    return int(word[0])


def is_done(stream: object) -> bool:
    result = cu.cuStreamQuery(stream)[0]
    assert result in (cu.CUresult.CUDA_SUCCESS, cu.CUresult.CUDA_ERROR_NOT_READY)
    return bool(result == cu.CUresult.CUDA_SUCCESS)


@software_gpu()
def test_streams_run_at_the_same_time() -> None:
    primary()
    streams = [ok(cu.cuStreamCreate(NON_BLOCKING)) for _ in range(8)]
    address, words = pinned_words(9)
    # Stream i waits for word i and sets word i + 1: from the last stream backwards, so each must be running.
    for i in reversed(range(8)):
        ok(cu.cuStreamWaitValue32(streams[i], address + 4 * i, 1, GEQ))
        ok(cu.cuStreamWriteValue32(streams[i], address + 4 * i + 4, 1, 0))
    assert not any(is_done(s) for s in streams)
    words[0] = 1
    ok(cu.cuCtxSynchronize())
    assert (words == 1).all()


@software_gpu()
def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it() -> None:
    primary()
    gate = Gate()
    address, words = pinned_words(3)
    first, second, free = ok(cu.cuStreamCreate(0)), ok(cu.cuStreamCreate(0)), ok(cu.cuStreamCreate(NON_BLOCKING))
    gate.hold(first)
    ok(cu.cuStreamWriteValue32(0, address, 1, 0))
    ok(cu.cuStreamWriteValue32(second, address + 4, 1, 0))
    ok(cu.cuStreamWriteValue32(free, address + 8, 1, 0))
    ok(cu.cuStreamSynchronize(free))
    assert words.tolist() == [0, 0, 1]
    assert not is_done(0)
    assert not is_done(second)
    gate.open()
    ok(cu.cuStreamSynchronize(0))
    ok(cu.cuStreamSynchronize(second))
    assert words.tolist() == [1, 1, 1]


@software_gpu()
def test_each_thread_has_a_default_stream_of_its_own() -> None:
    context = primary()
    gate = Gate()
    per_thread = cu.CUstream(2)
    gate.hold(per_thread)
    seen: list[int] = []

    def other() -> None:
        ok(cu.cuCtxSetCurrent(context))
        seen.append(ok(cu.cuStreamGetId(per_thread)))
        assert is_done(per_thread)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert not is_done(per_thread)
    assert seen
    assert seen[0] != ok(cu.cuStreamGetId(per_thread))
    gate.open()
    ok(cu.cuStreamSynchronize(per_thread))


@software_gpu()
def test_events_order_streams() -> None:
    primary()
    gate = Gate()
    address, words = pinned_words(2)
    one, two = ok(cu.cuStreamCreate(NON_BLOCKING)), ok(cu.cuStreamCreate(NON_BLOCKING))
    event = ok(cu.cuEventCreate(NO_TIMING))
    ok(cu.cuEventQuery(event))
    ok(cu.cuStreamWaitEvent(two, event, 0))
    gate.hold(one)
    ok(cu.cuStreamWriteValue32(one, address, 1, 0))
    ok(cu.cuEventRecord(event, one))
    refused(cu.cuEventQuery(event), "NOT_READY")
    ok(cu.cuStreamWaitEvent(two, event, 0))
    ok(cu.cuStreamWriteValue32(two, address + 4, 1, 0))
    assert not is_done(two)
    assert words[1] == 0
    gate.open()
    ok(cu.cuEventSynchronize(event))
    assert words[0] == 1
    ok(cu.cuStreamSynchronize(two))
    assert words.tolist() == [1, 1]


@software_gpu()
def test_events_take_the_time() -> None:
    primary()
    gate = Gate()
    stream = ok(cu.cuStreamCreate(0))
    start, end, silent = ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(NO_TIMING))
    refused(cu.cuEventElapsedTime(start, end), "INVALID_HANDLE")
    ok(cu.cuEventRecord(start, stream))
    gate.hold(stream)
    ok(cu.cuEventRecord(end, stream))
    ok(cu.cuEventRecord(silent, stream))
    refused(cu.cuEventElapsedTime(start, end), "NOT_READY")
    gate.open()
    ok(cu.cuEventSynchronize(silent))
    assert ok(cu.cuEventElapsedTime(start, end)) > 0
    assert ok(cu.cuEventElapsedTime(end, start)) < 0
    refused(cu.cuEventElapsedTime(start, silent), "INVALID_HANDLE")
    refused(cu.cuEventCreate(cu.CUevent_flags.CU_EVENT_INTERPROCESS.value), "INVALID_VALUE")
    ok(cu.cuEventDestroy(end))
    refused(cu.cuEventRecord(end, stream), "INVALID_HANDLE")


@software_gpu()
def test_a_blocking_copy_is_there_for_streams_that_do_not_wait_for_its_own() -> None:
    """The default stream is kept busy, so that a copy that is only posted would come late."""
    primary()
    stream = ok(cu.cuStreamCreate(NON_BLOCKING))
    much, word = ok(cu.cuMemAlloc(16 << 20)), ok(cu.cuMemAlloc(4))
    address, words = pinned_words(1)
    for value in range(1, 20):
        source = np.array([value], dtype=np.uint32)
        ok(cu.cuMemsetD8Async(much, value, 16 << 20, 0))
        ok(cu.cuMemcpyHtoD(word, source.ctypes.data, 4))
        ok(cu.cuMemcpyDtoHAsync(address, word, 4, stream))
        ok(cu.cuStreamSynchronize(stream))
        assert words[0] == value


@software_gpu()
def test_freed_memory_comes_back_while_a_host_function_runs() -> None:
    """More than half of the GPU, freed behind a function that takes its time, and wanted again at once."""
    primary()
    stream = ok(cu.cuStreamCreate(0))
    size = ok(cu.cuMemGetInfo())[0] * 6 // 10 >> 21 << 21
    memory = ok(cu.cuMemAlloc(size))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def linger(_: int | None) -> None:
        time.sleep(0.5)

    ok(cu.cuLaunchHostFunc(stream, cu.CUhostFn(ctypes.cast(linger, ctypes.c_void_p).value), 0))
    ok(cu.cuMemFree(memory))
    memory = ok(cu.cuMemAlloc(size))
    ok(cu.cuMemsetD8Async(memory, 1, 4096, stream))
    ok(cu.cuStreamSynchronize(stream))
    ok(cu.cuMemFree(memory))


@software_gpu()
def test_host_functions_run_in_order_and_may_not_call_cuda() -> None:
    primary()
    order: list[int] = []
    results: list[object] = []
    stream = ok(cu.cuStreamCreate(0))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def note(data: int | None) -> None:
        order.append(data or 0)
        results.append(cu.cuStreamSynchronize(stream)[0])

    for i in range(20):
        ok(cu.cuLaunchHostFunc(stream, cu.CUhostFn(ctypes.cast(note, ctypes.c_void_p).value), i))
    ok(cu.cuStreamSynchronize(stream))
    assert order == list(range(20))
    assert set(results) == {cu.CUresult.CUDA_ERROR_NOT_PERMITTED}

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def told(which: int | None, status: int, data: int | None) -> None:
        order.append(1000 + status + (data or 0))

    ok(cu.cuStreamAddCallback(stream, cu.CUstreamCallback(ctypes.cast(told, ctypes.c_void_p).value), 3, 0))
    ok(cu.cuStreamSynchronize(stream))
    assert order[-1] == 1003


@software_gpu(devices="2")
def test_a_thread_keeps_its_own_stream_in_each_context() -> None:
    first = primary(0)
    second = primary(1)
    own = cu.CUstream(cu.CU_STREAM_PER_THREAD)
    gate = Gate()
    ok(cu.cuCtxSetCurrent(first))
    gate.hold(own)
    ok(cu.cuCtxSetCurrent(second))
    ok(cu.cuStreamSynchronize(own))  # another stream
    ok(cu.cuCtxSetCurrent(first))
    assert cu.cuStreamQuery(own)[0] == cu.CUresult.CUDA_ERROR_NOT_READY
    gate.open()
    ok(cu.cuStreamSynchronize(own))


def rows(host: int, device: int, *, up: bool) -> cu.CUDA_MEMCPY2D:
    """16 rows of 100 bytes, 128 apart in host memory and 256 apart on the device."""
    host_kind, device_kind = cu.CUmemorytype.CU_MEMORYTYPE_HOST, cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    copy = cu.CUDA_MEMCPY2D()
    copy.WidthInBytes, copy.Height = 100, 16
    if up:
        copy.srcMemoryType, copy.srcHost, copy.srcPitch = host_kind, host, 128
        copy.dstMemoryType, copy.dstDevice, copy.dstPitch = device_kind, device, 256
    else:
        copy.srcMemoryType, copy.srcDevice, copy.srcPitch = device_kind, device, 256
        copy.dstMemoryType, copy.dstHost, copy.dstPitch = host_kind, host, 128
    return copy


@software_gpu()
def test_rows_of_pinned_memory_move_in_their_streams_turn() -> None:
    primary()
    gate = Gate()
    stream = ok(cu.cuStreamCreate(NON_BLOCKING))
    first, second = int(ok(cu.cuMemAlloc(4096))), int(ok(cu.cuMemAlloc(4096)))
    pinned, back = (int(ok(cu.cuMemHostAlloc(2048, 0))) for _ in range(2))
    pageable = np.full((16, 128), 1, np.uint8)
    ctypes.memset(pinned, 1, 2048)
    ctypes.memset(back, 9, 2048)
    gate.hold(stream)
    ok(cu.cuMemcpy2DAsync(rows(pinned, first, up=True), stream))
    ok(cu.cuMemcpy2DAsync(rows(pageable.ctypes.data, second, up=True), stream))
    ctypes.memset(pinned, 2, 2048)
    pageable[:] = 2
    gate.open()
    # Down into pinned rows and up again from them, with nobody waiting in between.
    ok(cu.cuMemcpy2DAsync(rows(back, first, up=False), stream))
    ok(cu.cuMemcpy2DAsync(rows(back, second + 128, up=True), stream))
    ok(cu.cuStreamSynchronize(stream))
    arrived = np.frombuffer(ctypes.string_at(back, 2048), np.uint8).reshape(16, 128)
    assert (arrived[:, :100] == 2).all()
    assert (arrived[:, 100:] == 9).all()
    result = np.zeros((16, 256), np.uint8)
    ok(cu.cuMemcpyDtoH(result.ctypes.data, second, 4096))
    assert (result[:, :100] == 1).all()
    assert (result[:, 128:228] == 2).all()


@software_gpu()
def test_pageable_sources_are_taken_at_the_call_and_pinned_ones_later() -> None:
    primary()
    gate = Gate()
    stream = ok(cu.cuStreamCreate(NON_BLOCKING))
    target = ok(cu.cuMemAlloc(8192))
    pageable = np.full(4096, 1, np.uint8)
    pinned = int(ok(cu.cuMemHostAlloc(4096, 0)))
    ctypes.memset(pinned, 1, 4096)
    gate.hold(stream)
    ok(cu.cuMemcpyHtoDAsync(target, pageable.ctypes.data, 4096, stream))
    ok(cu.cuMemcpyHtoDAsync(int(target) + 4096, pinned, 4096, stream))
    pageable[:] = 2
    ctypes.memset(pinned, 2, 4096)
    gate.open()
    result = np.zeros(8192, np.uint8)
    ok(cu.cuMemcpyDtoHAsync(result.ctypes.data, target, 8192, stream))
    assert (result[:4096] == 1).all()
    assert (result[4096:] == 2).all()


@software_gpu()
def test_stream_memory_operations() -> None:
    primary()
    stream = ok(cu.cuStreamCreate(0))
    address, words = pinned_words(4)
    operation = cu.CUstreamBatchMemOpType
    ok(cu.cuStreamWriteValue64(stream, address, (7 << 32) | 5, 0))
    ok(cu.cuStreamWaitValue64(stream, address, (7 << 32) | 5, 1))
    ok(cu.cuStreamWaitValue32(stream, address, 4, 2))  # bits in common
    ok(cu.cuStreamWaitValue32(stream, address, 0xFFFFFFF0, 3))  # nor
    batch = [cu.CUstreamBatchMemOpParams() for _ in range(3)]
    batch[0].operation = operation.CU_STREAM_MEM_OP_WRITE_VALUE_32
    batch[0].writeValue.operation = operation.CU_STREAM_MEM_OP_WRITE_VALUE_32
    batch[0].writeValue.address, batch[0].writeValue.value = address + 8, 40
    batch[1].waitValue.operation = operation.CU_STREAM_MEM_OP_WAIT_VALUE_32
    batch[1].waitValue.address, batch[1].waitValue.value = address + 8, 40
    batch[2].writeValue.operation = operation.CU_STREAM_MEM_OP_WRITE_VALUE_32
    batch[2].writeValue.address, batch[2].writeValue.value = address + 12, 41
    ok(cu.cuStreamBatchMemOp(stream, 3, batch, 0))
    ok(cu.cuStreamSynchronize(stream))
    assert words.tolist() == [5, 7, 40, 41]
    refused(cu.cuStreamWriteValue32(stream, address + 1, 1, 0), "INVALID_VALUE")
    refused(cu.cuStreamWaitValue32(stream, 4096, 1, 0), "INVALID_VALUE")


@software_gpu()
def test_stream_properties() -> None:
    context = primary()
    least, greatest = ok(cu.cuCtxGetStreamPriorityRange())
    assert least > greatest
    stream = ok(cu.cuStreamCreateWithPriority(NON_BLOCKING, greatest - 10))
    assert ok(cu.cuStreamGetPriority(stream)) == greatest
    assert ok(cu.cuStreamGetFlags(stream)) == NON_BLOCKING
    assert int(ok(cu.cuStreamGetDevice(stream))) == 0
    assert int(ok(cu.cuStreamGetCtx(stream))) == int(context)
    assert ok(cu.cuStreamGetId(stream)) != ok(cu.cuStreamGetId(0))
    refused(cu.cuStreamCreate(8), "INVALID_VALUE")
    ok(cu.cuStreamDestroy(stream))
    refused(cu.cuStreamDestroy(stream), "INVALID_HANDLE")
    refused(cu.cuStreamQuery(0x12345), "INVALID_HANDLE")
    refused(cu.cuStreamQuery(int(context)), "INVALID_HANDLE")


@software_gpu()
def test_a_destroyed_stream_finishes_its_work() -> None:
    primary()
    gate = Gate()
    address, words = pinned_words(1)
    stream = ok(cu.cuStreamCreate(NON_BLOCKING))
    gate.hold(stream)
    ok(cu.cuStreamWriteValue32(stream, address, 9, 0))
    ok(cu.cuStreamDestroy(stream))
    assert words[0] == 0
    gate.open()
    ok(cu.cuCtxSynchronize())
    assert words[0] == 9


@software_gpu()
def test_freeing_waits_for_the_work_in_flight() -> None:
    primary()
    gate = Gate()
    stream = ok(cu.cuStreamCreate(NON_BLOCKING))
    address = ok(cu.cuMemAlloc(4096))
    gate.hold(stream)
    ok(cu.cuMemsetD8Async(address, 1, 4096, stream))
    freed = threading.Event()

    def free() -> None:
        ok(cu.cuCtxSetCurrent(ok(cu.cuDevicePrimaryCtxRetain(0))))
        ok(cu.cuMemFree(address))
        freed.set()

    thread = threading.Thread(target=free)
    thread.start()
    assert not freed.wait(0.2)
    gate.open()
    thread.join()
    ok(cu.cuCtxSynchronize())


@software_gpu()
def test_many_threads_share_a_context() -> None:
    context = primary()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            ok(cu.cuCtxSetCurrent(context))
            stream = ok(cu.cuStreamCreate(seed % 2))
            event = ok(cu.cuEventCreate(0))
            for round_ in range(20):
                values = np.full(1000 + seed, seed * 32 + round_, np.uint32)
                result = np.zeros_like(values)
                address = ok(cu.cuMemAlloc(values.nbytes))
                ok(cu.cuMemcpyHtoDAsync(address, values.ctypes.data, values.nbytes, stream))
                ok(cu.cuEventRecord(event, stream))
                ok(cu.cuStreamWaitEvent(0, event, 0))
                ok(cu.cuMemcpyDtoH(result.ctypes.data, address, values.nbytes))
                assert (result == values).all()
                ok(cu.cuMemFree(address))
            ok(cu.cuStreamDestroy(stream))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@software_gpu()
def test_the_process_ends_while_streams_wait() -> None:
    primary()
    gate = Gate()
    for _ in range(3):
        gate.hold(ok(cu.cuStreamCreate(NON_BLOCKING)))


@software_gpu(devices="2")
def test_a_copy_between_devices_in_the_default_stream_is_serialised_with_both() -> None:
    """It waits for what either device was given before, and what either is given after waits for it."""
    first = primary(0)
    source, mine = ok(cu.cuMemAlloc(4)), ok(cu.cuMemAlloc(4))
    ok(cu.cuMemsetD32(source, 1, 1))
    second = primary(1)
    target, theirs = ok(cu.cuMemAlloc(4)), ok(cu.cuMemAlloc(4))
    ok(cu.cuMemsetD32(target, 0, 1))
    copies = (
        lambda: cu.cuMemcpyAsync(target, source, 4, 0),
        lambda: cu.cuMemcpyPeerAsync(target, second, source, first, 4, 0),
    )
    for value, copy in enumerate(copies, 7):
        gate = Gate()
        ok(cu.cuCtxSetCurrent(second))
        busy = ok(cu.cuStreamCreate(0))
        gate.hold(busy)
        ok(cu.cuMemcpyDtoDAsync(theirs, target, 4, busy))  # reads what was there before
        ok(cu.cuCtxSetCurrent(first))
        ok(cu.cuMemsetD32(source, value, 1))
        ok(copy())
        ok(cu.cuMemsetD32Async(source, 99, 1, 0))  # not before the copy has read it
        assert not is_done(0)
        ok(cu.cuCtxSetCurrent(second))
        ok(cu.cuMemcpyDtoDAsync(mine, target, 4, 0))
        gate.open()
        ok(cu.cuStreamSynchronize(0))
        words = [read_word(address) for address in (theirs, target, mine)]
        assert words == [value - 1 if value > 7 else 0, value, value]
        ok(cu.cuCtxSetCurrent(first))
        ok(cu.cuStreamSynchronize(0))
        assert read_word(source) == 99


@software_gpu()
def test_a_stream_has_the_whole_device() -> None:
    context = primary()
    kind = cu.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
    whole = ok(cu.cuDeviceGetAttribute(cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0))
    asked = (
        cu.cuDeviceGetDevResource(0, kind),
        cu.cuCtxGetDevResource(context, kind),
        cu.cuStreamGetDevResource(ok(cu.cuStreamCreate(0)), kind),
        cu.cuStreamGetDevResource(0, kind),
    )
    for resource in map(ok, asked):
        assert (resource.type, resource.sm.smCount) == (kind, whole)
    refused(cu.cuDeviceGetDevResource(0, cu.CUdevResourceType.CU_DEV_RESOURCE_TYPE_INVALID), "INVALID_VALUE")
    refused(cu.cuDeviceGetDevResource(5, kind), "INVALID_DEVICE")
