"""One program with the GPUs of two servers: which fail with theirs, what is counted, what NVML and CuPy see."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gpu_server import GpuServer, gpu_server, read_stats, surroundings

from clientagent.run import ask_inventory, read_secret

HERE = Path(__file__).resolve().parent
DRIVER = str(HERE / "driver_api.py")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GpuServer]]:
    """A GPU server with one software GPU of 1 GiB, and one with two of 768 MiB."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                gpu_server(
                    tmp_path_factory.mktemp("one-of-several"),
                    "softgpu",
                    GPUFERRY_SOFTGPU_MEMORY_MIB=str(memory),
                    GPUFERRY_SOFTGPU_DEVICES=str(devices),
                )
            )
            for devices, memory in ((1, 1024), (2, 768))
        ]


def command(servers: list[GpuServer], gpus: int, *program: str) -> list[str]:
    named = [word for s in servers for word in ("--server", s.address, "--secret-file", str(s.secret_file))]
    return [*(sys.executable, "-m", "clientagent.command", "run", "-n", str(gpus)), *named, "--", *program]


def run(servers: list[GpuServer], gpus: int, *program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(servers, gpus, *program),
        env=surroundings(**variables) | {"PYTHONPATH": f"{HERE.parents[2]}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def inventory(server: GpuServer) -> dict[str, Any]:
    return ask_inventory(server.address, read_secret(server.secret_file))


def await_sessions(server: GpuServer, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(found := list(inventory(server)["sessions"])) != count:
        assert time.monotonic() < deadline, f"{len(found)} sessions instead of {count}"
        time.sleep(0.05)
    return found


def used_mib(server: GpuServer) -> int:
    return sum(int(gpu["memory_used_mib"]) for gpu in inventory(server)["gpus"])


ALL_GPUS = """
import ctypes
from driver_api import Driver, words
driver = Driver()
count = ctypes.c_int()
driver.ok("cuDeviceGetCount", ctypes.byref(count))
gpus = []
for ordinal in range(count.value):
    context, total = ctypes.c_void_p(), ctypes.c_size_t()
    driver.ok("cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
    driver.ok("cuCtxSetCurrent", context)
    driver.ok("cuDeviceTotalMem_v2", ctypes.byref(total), ordinal)
    place = driver.allocate(64 << 20)
    driver.upload(place, bytes(4000))
    gpus.append((context, place, driver.load(), total.value >> 20))

def turn(ordinal):
    context, place, function, total = gpus[ordinal]
    result = driver.call("cuCtxSetCurrent", context) or driver.launch(function, place, 1000)
    return result or driver.call("cuCtxSynchronize")
"""


def test_the_gpus_are_numbered_through_and_fail_with_their_own_server(servers: list[GpuServer]) -> None:
    before = [used_mib(server) for server in servers]
    body = (
        ALL_GPUS
        + """
print([gpu[3] for gpu in gpus], [turn(i) for i in range(len(gpus))], flush=True)
input()
print([turn(i) for i in range(len(gpus))], flush=True)
driver.ok("cuCtxSetCurrent", gpus[0][0])
print(set(words(driver.download(gpus[0][1], 4000))), flush=True)
try:
    driver.allocate(900 << 20)
    print("allocated", flush=True)
except AssertionError as failure:
    print(failure, flush=True)
stream = ctypes.c_void_p()
driver.ok("cuCtxSetCurrent", gpus[1][0])
print(driver.call("cuMemcpyHtoD_v2", ctypes.c_uint64(gpus[1][1]), bytes(16), ctypes.c_size_t(16)), flush=True)
input()
"""
    )
    process = subprocess.Popen(
        command(servers, 3, sys.executable, "-c", body),
        env=surroundings() | {"PYTHONPATH": f"{HERE.parents[2]}:{HERE}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "[1024, 768, 768] [0, 0, 0]\n"
        await_sessions(servers[0], 1)
        (second,) = await_sessions(servers[1], 1)
        assert used_mib(servers[0]) >= before[0] + 64
        assert used_mib(servers[1]) >= before[1] + 128
        os.kill(second["worker"], signal.SIGKILL)
        await_sessions(servers[1], 0)
        assert used_mib(servers[1]) == before[1]
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "[0, 46, 46]\n"  # CUDA_ERROR_DEVICE_UNAVAILABLE
        assert process.stdout.readline() == "{2}\n"
        assert process.stdout.readline() == "allocated\n"
        assert process.stdout.readline() == "46\n"
        _, errors = process.communicate("\n", timeout=60)
        assert errors.count("is lost") == 1
        assert f"GPU server {servers[1].address} is lost" in errors
        assert "Every CUDA call for its GPUs fails" in errors
    finally:
        process.kill()
        process.wait()
    await_sessions(servers[0], 0)
    assert used_mib(servers[0]) == before[0]


def test_round_trips_are_those_of_both_servers(servers: list[GpuServer]) -> None:
    """As on one server: a session's opening and a module's loading on each, and one wait."""
    body = ALL_GPUS + "driver.ok('cuCtxSetCurrent', gpus[0][0])\nprint(turn(0), turn(1))"
    done = run(servers, 2, sys.executable, "-c", body, GPUFERRY_STATS="1")
    assert (done.returncode, done.stdout) == (0, "0 0\n"), done.stderr
    assert read_stats(done.stderr).round_trips == 2 * (2 + 1)


def test_as_many_servers_as_are_needed(servers: list[GpuServer]) -> None:
    done = run(servers, 1, sys.executable, "-c", ALL_GPUS + "print([gpu[3] for gpu in gpus])")
    assert (done.returncode, done.stdout) == (0, "[1024]\n"), done.stderr
    done = run(servers, 4, sys.executable, "-c", "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))")
    assert done.stdout == "46\n"
    assert re.search(rf"GPU server {servers[1].address}.*asked for 3 GPU\(s\)", done.stderr), done.stderr
    for server in servers:
        await_sessions(server, 0)


def test_settings_that_do_not_fit_together(servers: list[GpuServer]) -> None:
    addresses = ",".join(server.address for server in servers)
    code = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    for changed, said in (
        ({"GPUFERRY_DEVICES": "1,1,1"}, "GPUFERRY_DEVICES has 3 parts for the 2 servers of GPUFERRY_SERVER"),
        ({"GPUFERRY_SECRET_FILE": "a,b,c"}, "GPUFERRY_SECRET_FILE has 3 parts for the 2 servers"),
        ({"GPUFERRY_SERVER": ",".join([addresses] * 40)}, "names 80 servers: one program can use 64"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=surroundings(**(servers[0].shim_environment() | {"GPUFERRY_SERVER": addresses} | changed)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "46\n"
        assert done.stderr.count("\n") == 1
        assert said in done.stderr


NVML = """
import json, pynvml
from driver_api import Driver
import ctypes
driver = Driver()
pynvml.nvmlInit()
shown = []
for ordinal in range(pynvml.nvmlDeviceGetCount()):
    device = pynvml.nvmlDeviceGetHandleByIndex(ordinal)
    bus, total = ctypes.create_string_buffer(32), ctypes.c_size_t()
    driver.ok("cuDeviceGetPCIBusId", bus, 32, ordinal)
    driver.ok("cuDeviceTotalMem_v2", ctypes.byref(total), ordinal)
    uuid = (ctypes.c_ubyte * 16)()
    driver.ok("cuDeviceGetUuid_v2", uuid, ordinal)
    pci = pynvml.nvmlDeviceGetPciInfo(device)
    found = pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(bus.value))
    again = ctypes.c_int()
    driver.ok("cuDeviceGetByPCIBusId", ctypes.byref(again), bus.value)
    own = pynvml.nvmlDeviceGetUUID(device).replace("-", "")[3:] == bytes(uuid).hex()
    shown.append([found, again.value, own, pynvml.nvmlDeviceGetMemoryInfo(device).total >> 20, total.value >> 20,
                  pci.domain == int(bus.value[:4], 16), pci.busId.lower().endswith(bus.value.decode().lower())])
print(json.dumps(shown))
"""


def test_nvml_and_cuda_number_and_name_the_gpus_alike(servers: list[GpuServer]) -> None:
    done = run(servers, 3, sys.executable, "-c", NVML)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        [ordinal, ordinal, True, memory, memory, True, True] for ordinal, memory in enumerate((1024, 768, 768))
    ]


def test_a_program_that_sees_gpus_of_the_second_server_only(servers: list[GpuServer]) -> None:
    body = ALL_GPUS + "print([gpu[3] for gpu in gpus], turn(0), words(driver.download(gpus[0][1], 4000))[0])\n"
    done = run(servers, 3, sys.executable, "-c", body, CUDA_VISIBLE_DEVICES="2")
    assert (done.stdout, done.returncode) == ("[768] 0 1\n", 0), done.stderr


def test_sessions_are_opened_at_the_same_time(servers: list[GpuServer]) -> None:
    """The second server's session begins while the first server is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = servers[1].shim_environment()
        environment["GPUFERRY_SERVER"] = f"127.0.0.1:{silent.getsockname()[1]},{servers[1].address}"
        code = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=surroundings(**environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await_sessions(servers[1], 1)
        finally:
            process.kill()
            process.wait()
        await_sessions(servers[1], 0)


ACROSS = """
import ctypes, threading, time
import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok

ok(cu.cuInit(0))
contexts = [ok(cu.cuDevicePrimaryCtxRetain(ordinal)) for ordinal in range(2)]

def on(ordinal):
    ok(cu.cuCtxSetCurrent(contexts[ordinal]))
"""


def across(servers: list[GpuServer], body: str) -> str:
    cases = HERE.parent / "softgpu"
    paths = f"{HERE.parents[2]}:{HERE}:{cases}:{cases / 'driver'}"
    done = subprocess.run(
        command(servers, 2, sys.executable, "-c", ACROSS + body),
        env=surroundings() | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stream_waits_for_another_servers_event_and_the_thread_does_not(servers: list[GpuServer]) -> None:
    body = """
on(0)
word = int(ok(cu.cuMemHostAlloc(64, 0)))
gate = ctypes.c_uint32.from_address(word)
gate.value = 0
first, event = ok(cu.cuStreamCreate(1)), ok(cu.cuEventCreate(2))
ok(cu.cuStreamWaitValue32(first, word, 1, 0))
ok(cu.cuEventRecord(event, first))
on(1)
second, place = ok(cu.cuStreamCreate(1)), ok(cu.cuMemAlloc(4))
ok(cu.cuMemsetD32(place, 7, 1))
ok(cu.cuStreamWaitEvent(second, event, 0))
ok(cu.cuEventRecord(event2 := ok(cu.cuEventCreate(2)), second))
ok(cu.cuMemsetD32Async(place, 8, 1, second))
print("posted", cu.cuStreamQuery(second)[0].name)
on(0)
ok(cu.cuEventRecord(event, ok(cu.cuStreamCreate(1))))  # the wait is for what was recorded before
on(1)
print("still", cu.cuStreamQuery(second)[0].name)
gate.value = 1
ok(cu.cuStreamSynchronize(second))
found = np.zeros(1, np.uint32)
ok(cu.cuMemcpyDtoH(found.ctypes.data, place, 4))
print("done", found[0])
"""
    assert across(servers, body).splitlines() == [
        "posted CUDA_ERROR_NOT_READY",
        "still CUDA_ERROR_NOT_READY",
        "done 8",
    ]


def test_arrays_are_copied_between_servers(servers: list[GpuServer]) -> None:
    body = """
form = cu.CUDA_ARRAY3D_DESCRIPTOR()
form.Width, form.Height, form.NumChannels, form.Format = 64, 8, 1, cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8
on(0)
array = ok(cu.cuArray3DCreate(form))
image = np.arange(512, dtype=np.uint8)

def box(width, height):
    copy = cu.CUDA_MEMCPY3D()
    copy.WidthInBytes, copy.Height, copy.Depth = width, height, 1
    return copy

up = box(64, 8)
up.srcMemoryType, up.srcHost, up.srcPitch = cu.CUmemorytype.CU_MEMORYTYPE_HOST, image.ctypes.data, 64
up.dstMemoryType, up.dstArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
ok(cu.cuMemcpy3D(up))
on(1)
line = int(ok(cu.cuMemAlloc(64)))
ok(cu.cuMemcpyAtoD(line, array, 16, 32))  # from the other server's array
found = np.zeros(32, np.uint8)
ok(cu.cuMemcpyDtoH(found.ctypes.data, line, 32))
print((found == image[16:48]).all())
mipmapped = ok(cu.cuMipmappedArrayCreate(form, 2))
level = ok(cu.cuMipmappedArrayGetLevel(mipmapped, 1))  # 32 × 4
over = box(32, 4)
over.srcMemoryType, over.srcArray, over.srcXInBytes = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array, 8
over.dstMemoryType, over.dstArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, level
for ordinal in (0, 1):  # whichever GPU is current
    on(ordinal)
    ok(cu.cuMemcpy3D(over))
down = box(32, 4)
small = np.zeros((4, 32), np.uint8)
down.srcMemoryType, down.srcArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, level
down.dstMemoryType, down.dstHost, down.dstPitch = cu.CUmemorytype.CU_MEMORYTYPE_HOST, small.ctypes.data, 32
on(0)
ok(cu.cuMemcpy3D(down))
print((small == image.reshape(8, 64)[:4, 8:40]).all())
ok(cu.cuMemcpyDtoA(array, 0, line, 32))  # and back, while the array's GPU is current
ok(cu.cuMemcpyAtoA(array, 32, level, 0, 16))
whole = np.zeros(64, np.uint8)
ok(cu.cuMemcpyAtoH(whole.ctypes.data, array, 0, 64))
print((whole[:32] == image[16:48]).all(), (whole[32:48] == image[8:24]).all(), (whole[48:] == image[48:64]).all())
"""
    assert across(servers, body).splitlines() == ["True", "True", "True True True"]
