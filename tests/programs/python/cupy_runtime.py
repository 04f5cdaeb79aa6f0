"""CuPy's runtime: streams, events, memory pools, pinned memory, devices, graphs, error reports."""

import cupy
import numpy as np


def streams_and_events() -> None:
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with first:
        a = cupy.arange(100_000, dtype=cupy.float64)
        a *= 2
        done = first.record()
    second.wait_event(done)
    with second:
        total = a.sum()
    second.synchronize()
    print("streams", float(total), done.done)
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    b = cupy.ones(1000).cumsum()
    end.record()
    end.synchronize()
    print("events", cupy.cuda.get_elapsed_time(start, end) >= 0, float(b[-1]))
    calls: list[object] = []
    first.launch_host_func(calls.append, "called")
    first.synchronize()
    print("host function", calls)


def memory() -> None:
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.used_bytes()
    a = cupy.zeros(1 << 20, dtype=cupy.uint8)
    print("pool used", pool.used_bytes() - before, pool.total_bytes() >= 1 << 20)
    address = a.data.ptr
    del a
    print("pool after", pool.used_bytes() - before, cupy.zeros(1 << 20, dtype=cupy.uint8).data.ptr == address)
    pool.set_limit(size=8 << 20)
    try:
        cupy.zeros(16 << 20, dtype=cupy.uint8)
    except cupy.cuda.memory.OutOfMemoryError:
        print("pool limit held")
    pool.set_limit(size=0)
    with cupy.cuda.using_allocator(cupy.cuda.MemoryAsyncPool().malloc):
        print("asynchronous pool", int(cupy.arange(1000).sum()))
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool(cupy.cuda.malloc_managed).malloc):
        print("managed pool", int(cupy.arange(1000).sum()))
    pinned = cupy.cuda.alloc_pinned_memory(8000)
    host = np.frombuffer(pinned, np.float64, 1000)
    host[...] = np.arange(1000)
    device = cupy.empty(1000)
    device.set(host)
    print("pinned", float(device.sum()))
    free, total = cupy.cuda.runtime.memGetInfo()
    print("memory info", 0 < free <= total == cupy.cuda.Device(0).mem_info[1])


def devices() -> None:
    print("devices", cupy.cuda.runtime.getDeviceCount())
    with cupy.cuda.Device(1):
        there = cupy.arange(10) + 5
        print("made on", there.device.id)
    with cupy.cuda.Device(0):
        here = cupy.asarray(there)
        print("copied to", here.device.id, here.tolist())


def graphs() -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        a = cupy.zeros(100)
        a += 1  # compiled and warmed before the capture
        stream.synchronize()
        stream.begin_capture()
        a += 1
        a *= 2
        graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream)
    stream.synchronize()
    print("graph", set(a.tolist()))


def errors() -> None:
    kernel = cupy.RawKernel('extern "C" __global__ void touch(int* p) { *p = 1; }', "touch")
    try:
        kernel((1,), (2048,), (cupy.zeros(1, cupy.int32),))
    except cupy.cuda.driver.CUDADriverError as error:
        print("launch", str(error).split(":")[0])
    kernel((1,), (1,), (np.uint64(64),))
    try:
        cupy.cuda.Device().synchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        print("fault", str(error).split(":")[0])


streams_and_events()
memory()
devices()
graphs()
errors()
