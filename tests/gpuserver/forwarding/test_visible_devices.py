"""CUDA_VISIBLE_DEVICES: what a program sees of three GPUs, natively and forwarded, for CUDA and for NVML."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_server import GpuServer, gpu_server, surroundings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "softgpu"))
from software_gpu import environment

SETTINGS = {
    "devices": "3",
    "name": "A,B,C",
    "memory_mib": "64",
    "uuid": ",".join(f"GPU-00000000-0000-0000-0000-0000000000{digit}{digit}" for digit in "abc"),
}
FIRST, SECOND, THIRD = SETTINGS["uuid"].split(",")

PROGRAM = """
import ctypes
cuda, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
result, count, text = cuda.cuInit(0), ctypes.c_int(-1), ctypes.create_string_buffer(64)
print("init", result, "count", cuda.cuDeviceGetCount(ctypes.byref(count)), count.value)
for ordinal in range(count.value):
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    assert cuda.cuDeviceGet(ctypes.byref(device), ordinal) == 0
    cuda.cuDeviceGetName(text, 64, device)
    bus = ctypes.create_string_buffer(32)
    cuda.cuDeviceGetPCIBusId(bus, 32, device)
    found = ctypes.c_int(-1)
    cuda.cuDeviceGetByPCIBusId(ctypes.byref(found), bus)
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(32 << 20)) == 0
    assert cuda.cuMemsetD8_v2(address, ctypes.c_ubyte(ordinal + 1), ctypes.c_size_t(16)) == 0
    byte = ctypes.create_string_buffer(1)
    assert cuda.cuMemcpyDtoH_v2(byte, address, ctypes.c_size_t(1)) == 0
    peers = []
    for other in range(count.value):
        can = ctypes.c_int(-1)
        cuda.cuDeviceCanAccessPeer(ctypes.byref(can), device, other)
        peers.append(can.value)
    print("device", text.value.decode(), found.value, byte.raw, peers)
none = ctypes.c_int()
print("beyond", cuda.cuDeviceGet(ctypes.byref(none), max(count.value, 0)))
nvml.nvmlInit_v2()
all_gpus = ctypes.c_uint()
nvml.nvmlDeviceGetCount_v2(ctypes.byref(all_gpus))
print("nvml", all_gpus.value)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    variables = {f"GPUFERRY_SOFTGPU_{name.upper()}": value for name, value in SETTINGS.items()}
    with gpu_server(tmp_path_factory.mktemp("three-gpus"), "softgpu", **variables) as running:
        yield running


def output(variables: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, "ABC"),
        ("1", "B"),
        ("2,0", "CA"),
        (f"{THIRD},{FIRST}", "CA"),
        ("GPU-00000000-0000-0000-0000-0000000000b", "B"),  # a beginning is enough
        ("GPU-0000", ""),  # but not of several
        ("1,7,0", "B"),  # the first that is none ends the list
        ("-1,0", ""),
        (" 2, 1x", "CB"),  # read as strtol does
        ("0,1,0", ""),  # named twice: none
        (f"0,{FIRST}", ""),
        ("NoDevFiles", ""),
        ("", ""),
    ],
)
def test_natively_and_forwarded_a_program_sees_the_same(server: GpuServer, visible: str | None, names: str) -> None:
    chosen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    forwarded = output(surroundings(**server.shim_environment(), GPUFERRY_DEVICES="3", **chosen))
    assert forwarded == output({**environment(**SETTINGS), **chosen})
    assert [line.split()[1] for line in forwarded if line.startswith("device")] == list(names)
    assert forwarded[0].startswith("init 0" if names else "init 100 ")
    assert forwarded[-1] == "nvml 3"


SHARING = """
import os, subprocess, sys
from cuda.bindings import driver as cu
from test_driver_sharing import DESCRIPTOR, MIB, access, fill, first_bytes, ok, primary, properties

device, imported = int(sys.argv[1]), len(sys.argv) > 2
primary(device)
address = int(ok(cu.cuMemAddressReserve(2 * MIB, 0, 0, 0)))
if imported:
    memory = ok(cu.cuMemImportFromShareableHandle(int(sys.argv[2]), DESCRIPTOR))
    assert ok(cu.cuMemGetAllocationPropertiesFromHandle(memory)).location.id == device
else:
    memory = ok(cu.cuMemCreate(2 * MIB, properties(device, exportable=True), 0))
ok(cu.cuMemMap(address, 2 * MIB, 0, memory, 0))
ok(cu.cuMemSetAccess(address, 2 * MIB, [access(device)], 1))
if imported:
    print(first_bytes(address), flush=True)
    fill(address, 6, 100)
else:
    fill(address, 5, 2 * MIB)
    descriptor = int(ok(cu.cuMemExportToShareableHandle(memory, DESCRIPTOR, 0)))
    child = [sys.executable, "-c", os.environ["CODE"], "1", str(descriptor)]
    subprocess.run(child, env=os.environ | {"CUDA_VISIBLE_DEVICES": "2,1"}, pass_fds=[descriptor], check=True)
    print(first_bytes(address, 100))
"""


def test_processes_that_number_their_gpus_differently_share_memory(server: GpuServer) -> None:
    cases = Path(__file__).resolve().parents[1] / "softgpu"
    variables = server.shim_environment() | {"GPUFERRY_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "1,2", "CODE": SHARING}
    environment = surroundings(**variables, GPUFERRY_TEST_CASE="1")
    environment["PYTHONPATH"] += f":{cases}:{cases / 'driver'}"
    done = subprocess.run(
        [sys.executable, "-c", SHARING, "0"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("{5}\n{6}\n", 0), done.stderr
