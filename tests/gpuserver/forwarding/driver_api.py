"""The driver API by ctypes, for small programs that tests run natively or forwarded: `python driver_api.py NAME`.

Each function of this file named `program_*` is such a program; what it prints is compared.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

PTX = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry add_one(.param .u64 place, .param .u32 count)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [place];
    ld.param.u32 %r1, [count];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd2, %r5, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r1, [%rd3];
    add.u32 %r1, %r1, 1;
    st.global.u32 [%rd3], %r1;
DONE:
    ret;
}
"""


# A kernel that takes its time, and a variable.
BUSY_PTX = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .global .align 8 .b8 table[65536];
.visible .entry busy(.param .u64 place, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %left;
    ld.param.u32 %left, [count];
AGAIN:
    sub.u32 %left, %left, 1;
    setp.ne.u32 %p, %left, 0;
    @%p bra AGAIN;
    ret;
}
"""


class Driver:
    """The libcuda.so.1 that this process finds, with device 0's primary context current."""

    def __init__(self, *, current: bool = True) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        if current:
            self.ok("cuInit", 0)
            self.context = ctypes.c_void_p()
            self.ok("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
            self.ok("cuCtxSetCurrent", self.context)

    def call(self, name: str, *arguments: Any) -> int:
        return int(getattr(self.cuda, name)(*arguments))

    def ok(self, name: str, *arguments: Any) -> None:
        result = self.call(name, *arguments)
        assert result == 0, f"{name} = {result}"

    def allocate(self, size: int) -> int:
        address = ctypes.c_uint64()
        self.ok("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def upload(self, address: int, data: bytes) -> None:
        self.ok("cuMemcpyHtoD_v2", ctypes.c_uint64(address), data, ctypes.c_size_t(len(data)))

    def download(self, address: int, size: int) -> bytes:
        place = ctypes.create_string_buffer(size)
        self.ok("cuMemcpyDtoH_v2", place, ctypes.c_uint64(address), ctypes.c_size_t(size))
        return place.raw

    def load(
        self, name: bytes = b"add_one", code: bytes = PTX, module: ctypes.c_void_p | None = None
    ) -> ctypes.c_void_p:
        module, function = ctypes.c_void_p() if module is None else module, ctypes.c_void_p()
        self.ok("cuModuleLoadData", ctypes.byref(module), code)
        self.ok("cuModuleGetFunction", ctypes.byref(function), module, name)
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        address: int,
        count: int,
        *,
        grid: tuple[int, int, int] | None = None,
        block: tuple[int, int, int] = (128, 1, 1),
        shared: int = 0,
        stream: Any = None,
    ) -> int:
        place, number = ctypes.c_uint64(address), ctypes.c_uint32(count)
        parameters = (ctypes.c_void_p * 2)(ctypes.addressof(place), ctypes.addressof(number))
        sizes = grid or ((count + block[0] - 1) // block[0], 1, 1)
        return self.call("cuLaunchKernel", function, *sizes, *block, shared, stream, parameters, None)


def words(data: bytes) -> list[int]:
    return list(memoryview(data).cast("I"))


def program_vector() -> None:
    """Upload, launch, download."""
    driver = Driver()
    place = driver.allocate(4000)
    driver.upload(place, b"".join(i.to_bytes(4, "little") for i in range(1000)))
    function = driver.load()
    for _ in range(3):
        assert driver.launch(function, place, 1000) == 0
    print(sum(words(driver.download(place, 4000))))


def program_first_launch() -> None:
    """From the first call to the first launch, one module load between them, then one wait."""
    driver = Driver()
    count, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    driver.ok("cuDeviceGetCount", ctypes.byref(count))
    driver.ok("cuDeviceGetName", name, 100, 0)
    for attribute in range(1, 120):
        driver.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, 0)
    function = driver.load()
    place = driver.allocate(4096)
    assert driver.launch(function, place, 16) == 0


def rows(host: int, device: int, *, up: bool) -> ctypes.Array[ctypes.c_uint64]:
    """CUDA_MEMCPY2D: 8 rows of 100 bytes between pinned memory (128 apart) and the device (200 apart)."""
    source, destination = (1, host, 0, 0, 128), (2, 0, device, 0, 200)
    if not up:
        source, destination = (2, 0, device, 0, 200), (1, host, 0, 0, 128)
    return (ctypes.c_uint64 * 16)(0, 0, *source, 0, 0, *destination, 100, 8)


def program_free_of_round_trips() -> None:
    """Everything here is posted or answered at home: between the two lines no round trip may happen."""
    driver = Driver()
    function = driver.load()
    free, total, value = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_int()
    host, back = ctypes.c_void_p(), ctypes.c_void_p()
    driver.ok("cuMemAllocHost_v2", ctypes.byref(host), ctypes.c_size_t(4096))
    driver.ok("cuMemAllocHost_v2", ctypes.byref(back), ctypes.c_size_t(4096))
    for _ in range(20):
        places = [driver.allocate(size) for size in (100, 5000, 3 << 20)]
        stream, event = ctypes.c_void_p(), ctypes.c_void_p()
        driver.ok("cuStreamCreate", ctypes.byref(stream), 1)
        driver.ok("cuEventCreate", ctypes.byref(event), 0)
        driver.ok("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(places[1]), host, ctypes.c_size_t(4000), stream)
        driver.ok("cuMemsetD32Async", ctypes.c_uint64(places[2]), 7, ctypes.c_size_t(100), stream)
        assert driver.launch(function, places[1], 1000, stream=stream) == 0
        driver.ok("cuMemcpyDtoHAsync_v2", back, ctypes.c_uint64(places[1]), ctypes.c_size_t(4000), stream)
        driver.ok("cuMemcpy2DAsync_v2", rows(host.value or 0, places[1], up=True), stream)
        driver.ok("cuMemcpy2DAsync_v2", rows(back.value or 0, places[1], up=False), stream)
        driver.ok("cuEventRecord", event, stream)
        driver.ok("cuStreamWaitEvent", stream, event, 0)
        driver.ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        driver.ok("cuFuncGetAttribute", ctypes.byref(value), 0, function)
        driver.ok("cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(value), function, 128, ctypes.c_size_t(0))
        driver.ok("cuStreamDestroy_v2", stream)
        driver.ok("cuEventDestroy_v2", event)
        for place in places:
            driver.ok("cuMemFree_v2", ctypes.c_uint64(place))


def program_threads() -> None:
    """Threads, one after another, each of which uses its own default stream."""
    driver = Driver()
    place = driver.allocate(4096)
    own = ctypes.c_void_p(2)  # CU_STREAM_PER_THREAD

    def use() -> None:
        driver.ok("cuCtxSetCurrent", driver.context)
        driver.ok("cuMemsetD8Async", ctypes.c_uint64(place), 1, ctypes.c_size_t(100), own)

    for _ in range(int(os.environ["THREADS"])):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()


def program_training_loop() -> None:
    """As a training step: 100 launches, 2 uploads, an event, one blocking download of 4 bytes."""
    iterations = int(os.environ.get("ITERATIONS", "10"))
    driver = Driver()
    function = driver.load()
    place = driver.allocate(4000)
    host, event = ctypes.c_void_p(), ctypes.c_void_p()
    driver.ok("cuMemAllocHost_v2", ctypes.byref(host), ctypes.c_size_t(4000))
    ctypes.memset(host, 0, 4000)
    driver.ok("cuEventCreate", ctypes.byref(event), 2)
    for _ in range(iterations):
        for _ in range(2):
            driver.ok("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(place), host, ctypes.c_size_t(4000), None)
        for _ in range(100):
            assert driver.launch(function, place, 64) == 0
        driver.ok("cuEventRecord", event, None)
        print(words(driver.download(place, 4)))


def program_model_upload() -> None:
    """As PyTorch moves a model to the GPU: every tensor is uploaded, and its stream waited for.

    What is launched then, in a stream that waits for no other, finds them all.
    """
    driver = Driver()
    function = driver.load()
    other = ctypes.c_void_p()
    driver.ok("cuStreamCreate", ctypes.byref(other), 1)
    tensors = int(os.environ.get("TENSORS", "10"))
    size = 8 << 20
    places = [driver.allocate(size) for _ in range(tensors)]
    for turn, place in enumerate(places):
        content = (turn + 1).to_bytes(4, "little") * (size // 4)
        driver.ok("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(place), content, ctypes.c_size_t(size), None)
        driver.ok("cuStreamSynchronize", None)
    last = places[-1] + size - 4096
    assert driver.launch(function, last, 1024, stream=other) == 0
    driver.ok("cuStreamSynchronize", other)
    seen = words(driver.download(last, 4096))
    print(min(seen) - tensors, max(seen) - tensors)
    # With a kernel posted before it, the same wait is one for the kernel, and says how it ended.
    assert driver.launch(function, 0, 16) == 0
    driver.ok("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(places[0]), bytes(64), ctypes.c_size_t(64), None)
    print(driver.call("cuStreamSynchronize", None))


def program_tokens() -> None:
    """As llama.cpp makes a token: inputs go up one by one, each waited for, in the thread's own stream.

    The work and its result are another stream's, which waits for none.
    """
    driver = Driver()
    function = driver.load()
    own, work = ctypes.c_void_p(2), ctypes.c_void_p()  # CU_STREAM_PER_THREAD
    driver.ok("cuStreamCreate", ctypes.byref(work), 1)
    place = driver.allocate(1 << 20)
    answer = ctypes.create_string_buffer(4096)
    for token in range(int(os.environ["TOKENS"])):
        for part in range(10):
            content = (100 * token + part).to_bytes(4, "little") * (25 << 8)
            target = ctypes.c_uint64(place + part * len(content))
            driver.ok("cuMemcpyHtoDAsync_v2", target, content, ctypes.c_size_t(len(content)), own)
            driver.ok("cuStreamSynchronize", own)
        assert driver.launch(function, place, 10 * (25 << 8), stream=work) == 0
        last = place + 10 * (100 << 8) - 4096
        driver.ok("cuMemcpyDtoHAsync_v2", answer, ctypes.c_uint64(last), ctypes.c_size_t(4096), work)
        driver.ok("cuStreamSynchronize", work)
        print(token, min(words(answer.raw)), max(words(answer.raw)))


def program_library() -> None:
    """As CUDA's runtime before 13 finds a kernel: in the module that a library is in the current context."""
    driver = Driver()
    library, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    driver.ok("cuLibraryLoadData", ctypes.byref(library), PTX, None, None, 0, None, None, 0)
    driver.ok("cuLibraryGetModule", ctypes.byref(module), library)
    driver.ok("cuModuleGetFunction", ctypes.byref(function), module, b"add_one")
    place = driver.allocate(4096)
    driver.ok("cuMemsetD32Async", ctypes.c_uint64(place), 7, ctypes.c_size_t(1024), None)
    assert driver.launch(function, place, 1000) == 0
    print(sum(words(driver.download(place, 4096))), driver.call("cuModuleUnload", module))


def program_unload() -> None:
    """As cuFFT drops a plan: a blocking copy fills a variable, behind other work; then its module is unloaded."""
    driver = Driver()
    busy = driver.load(b"busy", BUSY_PTX)
    for _ in range(10):
        module, table, size = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_size_t()
        driver.load(b"busy", BUSY_PTX, module)
        driver.ok("cuModuleGetGlobal_v2", ctypes.byref(table), ctypes.byref(size), module, b"table")
        assert driver.launch(busy, 0, 1_000_000, grid=(1, 1, 1), block=(1, 1, 1)) == 0
        driver.upload(table.value, bytes(size.value))
        driver.ok("cuModuleUnload", module)
    print(driver.call("cuCtxSynchronize"))


def program_order() -> None:
    """What one thread posted, another's blocking read sees."""
    driver = Driver()
    function = driver.load()
    place = driver.allocate(4096)
    driver.upload(place, bytes(4096))
    tries = int(os.environ.get("TRIES", "2000"))
    posted, read = threading.Semaphore(0), threading.Semaphore(0)
    wrong = []

    def poster() -> None:
        driver.ok("cuCtxSetCurrent", driver.context)
        for _ in range(tries):
            assert driver.launch(function, place, 32, block=(32, 1, 1)) == 0
            posted.release()
            read.acquire()

    thread = threading.Thread(target=poster)
    thread.start()
    for number in range(1, tries + 1):
        posted.acquire()
        seen = words(driver.download(place, 4))[0]
        if seen != number:
            wrong.append((number, seen))
        read.release()
    thread.join()
    print(f"{tries} tries, wrong: {wrong[:3]}")


def program_errors() -> None:
    """Errors that the call itself reports, then a fault that stays."""
    driver = Driver()
    function = driver.load()
    place = driver.allocate(4096)
    print("grid", driver.launch(function, place, 16, grid=(0, 1, 1)))
    print("block", driver.launch(function, place, 16, block=(2048, 1, 1)))
    print("shared", driver.launch(function, place, 16, shared=1 << 20))
    print("still fine", driver.launch(function, place, 16), driver.call("cuCtxSynchronize"))
    for size in (0, 1 << 50):
        address = ctypes.c_uint64()
        print("allocate", size, driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size)))
    print("free twice", driver.call("cuMemFree_v2", ctypes.c_uint64(place)), end=" ")
    print(driver.call("cuMemFree_v2", ctypes.c_uint64(place)))
    print(
        "copy from what was freed",
        driver.call("cuMemcpyDtoH_v2", ctypes.create_string_buffer(16), ctypes.c_uint64(place), ctypes.c_size_t(16)),
    )
    print("no image", driver.call("cuModuleLoadData", ctypes.byref(ctypes.c_void_p()), b"no PTX at all"))
    print("no function", driver.call("cuModuleGetFunction", ctypes.byref(ctypes.c_void_p()), module(driver), b"other"))
    stream = ctypes.c_void_p()
    driver.ok("cuStreamCreate", ctypes.byref(stream), 0)
    driver.ok("cuStreamDestroy_v2", stream)
    print("stale stream", driver.call("cuStreamSynchronize", stream))
    print("device", driver.call("cuDeviceGet", ctypes.byref(ctypes.c_int()), 99))
    print("wild", driver.launch(function, 0x123456000, 16))
    print("reported", driver.call("cuCtxSynchronize"), "and stays", driver.call("cuCtxSynchronize"))
    address = ctypes.c_uint64()
    print("allocate", driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(16)))
    print("launch", driver.launch(function, place, 16))


def module(driver: Driver) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    driver.ok("cuModuleLoadData", ctypes.byref(handle), PTX)
    return handle


def program_slice() -> None:
    """Allocations of 1 MiB until there is no more; then of everything at once."""
    driver = Driver()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    device_total = ctypes.c_size_t()
    driver.ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    driver.ok("cuDeviceTotalMem_v2", ctypes.byref(device_total), 0)
    print("info", free.value >> 20, total.value >> 20, device_total.value >> 20)
    places = []
    address = ctypes.c_uint64()
    while driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(1 << 20)) == 0:
        places.append(address.value)
    result = driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(1 << 20))
    print("allocated", len(places), "then", result)
    for place in places:
        driver.ok("cuMemFree_v2", ctypes.c_uint64(place))
    driver.ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    print("free again", free.value >> 20)
    size = ctypes.c_size_t(total.value)
    print("all", driver.call("cuMemAlloc_v2", ctypes.byref(address), size))
    driver.ok("cuMemsetD8_v2", address, 1, size)
    driver.ok("cuCtxSynchronize")
    print("one more", driver.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(1)))
    driver.ok("cuMemFree_v2", address)

    class Property(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_int),
            ("handles", ctypes.c_int),
            ("where", ctypes.c_int),
            ("id", ctypes.c_int),
            ("rest", ctypes.c_char * 64),
        ]

    wanted, handle = Property(1, 0, 1, 0, b""), ctypes.c_uint64()
    print("physical", driver.call("cuMemCreate", ctypes.byref(handle), size, ctypes.byref(wanted), ctypes.c_uint64(0)))
    print("pool", driver.call("cuMemAllocAsync", ctypes.byref(address), ctypes.c_size_t(1), None))
    print("managed", driver.call("cuMemAllocManaged", ctypes.byref(address), ctypes.c_size_t(1), 1))
    driver.ok("cuMemRelease", handle)
    print("pool", driver.call("cuMemAllocAsync", ctypes.byref(address), ctypes.c_size_t(1), None))


def program_hold() -> None:
    """Take memory, say so, wait to be killed."""
    driver = Driver()
    driver.allocate(48 << 20)
    driver.ok("cuCtxSynchronize")
    print("holding", flush=True)
    sys.stdin.readline()
    print("still", driver.call("cuCtxSynchronize"), flush=True)
    sys.stdin.readline()


def program_fork() -> None:
    """The child gets a defined state, the parent's session goes on."""
    driver = Driver()
    place = driver.allocate(4096)
    driver.upload(place, bytes(range(16)))
    child = os.fork()
    if child == 0:
        results = [driver.call("cuInit", 0), driver.call("cuCtxSynchronize"), driver.call("cuMemFree_v2", place)]
        os._exit(0 if results == [3, 3, 3] else 1)
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print("parent", driver.download(place, 16) == bytes(range(16)))


def in_child(work: Callable[[], int]) -> int:
    """The exit status of a forked child that leaves as a program does, with all its exit handlers."""
    child = os.fork()
    if child == 0:
        sys.exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def add_up(count: int) -> int:
    driver = Driver()
    place = driver.allocate(4 * count)
    driver.upload(place, b"".join(i.to_bytes(4, "little") for i in range(count)))
    assert driver.launch(driver.load(), place, count) == 0
    return sum(words(driver.download(place, 4 * count)))


def program_forked_workers() -> None:
    """Children that fork before the parent's first call have sessions of their own; later ones have none."""
    print("children before", [in_child(lambda n=n: add_up(n)) for n in (1, 2, 3)])
    print("parent", add_up(10))
    print("children after", [in_child(lambda: ctypes.CDLL("libcuda.so.1").cuInit(0)) for _ in range(2)])
    print("children that use no CUDA", [in_child(lambda n=n: n) for n in (0, 7)])
    print("parent again", add_up(20))


def program_big_copies() -> None:
    """Copies in many pieces, of odd sizes, from several threads."""
    driver = Driver()
    results: dict[int, bool] = {}

    def work(number: int, size: int) -> None:
        driver.ok("cuCtxSetCurrent", driver.context)
        data = os.urandom(size)
        place = driver.allocate(size)
        driver.upload(place, data)
        results[number] = driver.download(place, size) == data

    sizes = (1, 13, 4096, 65537, (4 << 20) + 3, 21_000_001)
    threads = [threading.Thread(target=work, args=(i, s)) for i, s in enumerate(sizes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(results.items()))


if __name__ == "__main__":
    globals()[f"program_{sys.argv[1]}"]()
