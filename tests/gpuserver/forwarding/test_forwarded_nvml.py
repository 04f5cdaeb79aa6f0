"""The client's libnvidia-ml.so.1, with the real pynvml: the lease's devices, in agreement with CUDA."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_server import GpuServer, gpu_server, surroundings
from test_forwarded_isolation import wait_until

from clientagent.run import find_shim
from gpuserver.native import find_native
from gpuserver.protocol.header import find_cuda_include
from gpuserver.protocol.nvml_header import read_functions
from gpuserver.protocol.nvml_specification import read_nvml_specification
from gpuserver.softgpu.command import program_environment

HERE = Path(__file__).resolve().parent
SLICE = 64 << 20
PAIR = {
    "GPUFERRY_SOFTGPU_MEMORY_MIB": "1024",
    "GPUFERRY_SOFTGPU_DEVICES": "2",
    "GPUFERRY_SOFTGPU_UUID": ",".join(f"GPU-{uuid.uuid4()}" for _ in range(2)),
}


@pytest.fixture(scope="module")
def pair_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A GPU server with two software GPUs of 1 GiB."""
    with gpu_server(tmp_path_factory.mktemp("pair"), "softgpu", **PAIR) as server:
        yield server


def run(server: GpuServer, body: str, count: int = 1, **changed: str) -> Any:
    """The JSON that a forwarded Python program prints last."""
    done = subprocess.run(
        [sys.executable, "-c", "import json, pynvml, sys\n" + body],
        env=surroundings(**{**server.shim_environment(64), "GPUFERRY_DEVICES": str(count), **changed})
        | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{server.log.read_text()}"
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


def test_every_function_of_the_header_is_exported() -> None:
    library = ctypes.CDLL(str(find_shim() / "libnvidia-ml.so.1"))
    missing = [f.symbol for f in read_functions(find_cuda_include()) if not hasattr(library, f.symbol)]
    assert missing == []


def test_what_is_not_forwarded_says_so(pair_server: GpuServer) -> None:
    body = """
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
answers = {}
for call in (
    lambda: pynvml.nvmlDeviceSetPowerManagementLimit(device, 100000),
    lambda: pynvml.nvmlDeviceGetCpuAffinity(device, 4),
    lambda: pynvml.nvmlEventSetCreate(),
    lambda: pynvml.nvmlUnitGetCount(),
):
    try:
        call()
        answers[len(answers)] = 0
    except pynvml.NVMLError as error:
        answers[len(answers)] = error.value
print(json.dumps([answers, pynvml.NVML_ERROR_NOT_SUPPORTED]))
"""
    answers, not_supported = run(pair_server, body)
    assert set(answers.values()) == {not_supported}
    assert read_nvml_specification().calls["nvmlEventSetCreate"].fields == ()


def test_the_devices_are_the_leases(pair_server: GpuServer) -> None:
    body = """
pynvml.nvmlInit()
found = []
for index in range(pynvml.nvmlDeviceGetCount()):
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    second = pynvml.nvmlDeviceGetMemoryInfo(device, pynvml.nvmlMemory_v2)
    uuid, pci = pynvml.nvmlDeviceGetUUID(device), pynvml.nvmlDeviceGetPciInfo(device)
    found.append({
        "index": pynvml.nvmlDeviceGetIndex(device),
        "by_uuid": pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)),
        "by_bus": pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(pci.busId)),
        "uuid": uuid,
        "memory": [memory.total, memory.used, memory.free],
        "second": [second.total, second.used, second.free, second.reserved],
        "name": pynvml.nvmlDeviceGetName(device),
        "capability": pynvml.nvmlDeviceGetCudaComputeCapability(device),
        "utilisation": pynvml.nvmlDeviceGetUtilizationRates(device).gpu,
        "processes": len(pynvml.nvmlDeviceGetComputeRunningProcesses(device)),
        "graphics": len(pynvml.nvmlDeviceGetGraphicsRunningProcesses(device)),
    })
versions = [pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion()]
print(json.dumps([found, versions]))
"""
    gpus, versions = run(pair_server, body, count=2)
    assert [g["index"] for g in gpus] == [g["by_uuid"] for g in gpus] == [g["by_bus"] for g in gpus] == [0, 1]
    assert len({g["uuid"] for g in gpus}) == 2
    for gpu in gpus:
        assert gpu["memory"] == [SLICE, 0, SLICE]
        assert gpu["second"] == [SLICE, 0, SLICE, 0]
        assert gpu["name"]
        assert 0 <= gpu["utilisation"] <= 100
        assert gpu["processes"] == gpu["graphics"] == 0
    assert versions[0]
    assert versions[1] >= 12000
    assert len(run(pair_server, body, count=1)[0]) == 1
    wait_until(pair_server, 0)


QUESTIONS = """
import ctypes
PLAIN = (
    "Name UUID Serial BoardPartNumber VbiosVersion InforomImageVersion Brand Architecture BusType BoardId "
    "MultiGpuBoard PciInfo CudaComputeCapability NumGpuCores MemoryBusWidth Attributes NumFans MaxPcieLinkGeneration "
    "MaxPcieLinkWidth GpuMaxPcieLinkGeneration PcieLinkMaxSpeed PowerManagementDefaultLimit "
    "PowerManagementLimitConstraints SupportedClocksThrottleReasons MaxMigDeviceCount FanSpeed PowerUsage "
    "EnforcedPowerLimit PowerManagementLimit PowerManagementMode PowerState PowerSource PerformanceState "
    "CurrentClocksThrottleReasons SupportedMemoryClocks CurrPcieLinkGeneration CurrPcieLinkWidth PcieSpeed "
    "PcieReplayCounter ComputeMode PersistenceMode DisplayMode DisplayActive MigMode GpuOperationMode "
    "VirtualizationMode EccMode DefaultEccMode RemappedRows RetiredPagesPendingStatus BAR1MemoryInfo"
).split()
NUMBERED = (
    "Temperature ClockInfo MaxClockInfo ApplicationsClock TemperatureThreshold PcieThroughput FanSpeed_v2 "
    "NvLinkState NvLinkVersion InforomVersion SupportedGraphicsClocks ViolationStatus"
).split()
def shown(value):
    if isinstance(value, ctypes.Structure):
        return {field[0]: shown(getattr(value, field[0])) for field in value._fields_}
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [shown(v) for v in value]
    return str(value)
answers = {}
def ask(key, function, *arguments):
    try:
        answers[key] = shown(function(*arguments))
    except pynvml.NVMLError as error:
        answers[key] = error.value
pynvml.nvmlInit()
for index in range(2):
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    for name in PLAIN:
        ask(f"{name} {index}", getattr(pynvml, "nvmlDeviceGet" + name), device)
    for name in NUMBERED:
        for number in range(3):
            ask(f"{name} {index} {number}", getattr(pynvml, "nvmlDeviceGet" + name), device, number)
    fields = pynvml.nvmlDeviceGetFieldValues(device, [1, 83, 84, 9999])
    answers[f"fields {index}"] = [[f.fieldId, f.valueType, f.nvmlReturn, f.value.ullVal] for f in fields]
    other = pynvml.nvmlDeviceGetHandleByIndex(1 - index)
    ask(f"topology {index}", pynvml.nvmlDeviceGetTopologyCommonAncestor, device, other)
    ask(f"peer {index}", pynvml.nvmlDeviceGetP2PStatus, device, other, 0)
print(json.dumps(answers))
"""


def test_every_question_has_the_answer_that_it_has_natively(pair_server: GpuServer) -> None:
    folder = find_native("gpuserver/softgpu/lib/libcuda.so.1").parent
    native = subprocess.run(
        [sys.executable, "-c", "import json, pynvml, sys\n" + QUESTIONS],
        env=program_environment(folder, surroundings(**PAIR)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert native.returncode == 0, native.stderr
    expected = json.loads(native.stdout)
    assert run(pair_server, QUESTIONS, count=2) == expected
    assert sum(isinstance(answer, str | dict | list) for answer in expected.values()) > 20


AGREEMENT = """
import ctypes
from driver_api import Driver
driver = Driver()
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
free, total, all_of_it = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t()
places, answers = [], []
def compare():
    driver.ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    driver.ok("cuDeviceTotalMem_v2", ctypes.byref(all_of_it), 0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    answers.append([free.value, memory.free, total.value, memory.total, all_of_it.value, memory.used])
compare()
for size in (1 << 20, 5 << 20, 17 << 20, 1000):
    places.append(driver.allocate(size))
    compare()
while places:
    driver.ok("cuMemFree_v2", ctypes.c_uint64(places.pop()))
    compare()
import os
(process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
print(json.dumps([answers, process.pid == os.getpid(), pynvml.nvmlSystemGetProcessName(process.pid)]))
"""


@pytest.mark.parametrize("slice_mib", [64, 0])
def test_memory_agrees_with_cuda_at_every_step(pair_server: GpuServer, slice_mib: int) -> None:
    answers, own, name = run(pair_server, AGREEMENT, GPUFERRY_MEMORY_MIB=str(slice_mib))
    for free, nvml_free, total, nvml_total, device_total, used in answers:
        assert free == nvml_free
        assert total == nvml_total == device_total
        assert used == total - free
    assert len({tuple(answer) for answer in answers}) > 3
    assert own
    assert "python" in name
    wait_until(pair_server, 0)


def test_memory_of_all_processes_of_the_lease_counts(pair_server: GpuServer) -> None:
    body = """
import subprocess
holders = [
    subprocess.Popen(
        [sys.executable, sys.argv[1], "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for _ in range(2)
]
for holder in holders:
    assert holder.stdout.readline() == "holding\\n"
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
processes = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
seen = sorted([p.pid, p.usedGpuMemory] for p in processes)
used = pynvml.nvmlDeviceGetMemoryInfo(device).used
holders[0].kill()
holders[0].wait()
after = pynvml.nvmlDeviceGetMemoryInfo(device).used
holders[1].communicate("\\n\\n")
print(json.dumps([seen == sorted([h.pid, 48 << 20] for h in holders), used >> 20, after >> 20]))
"""
    code = body.replace("sys.argv[1]", repr(str(HERE / "driver_api.py")))
    assert run(pair_server, code, GPUFERRY_MEMORY_MIB="128") == [True, 96, 48]
    wait_until(pair_server, 0)


def test_a_forked_child_has_a_connection_of_its_own(pair_server: GpuServer) -> None:
    body = """
import os
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
before = pynvml.nvmlDeviceGetUtilizationRates(device).gpu
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, json.dumps([pynvml.nvmlDeviceGetUtilizationRates(device).gpu for _ in range(20)]).encode())
    os._exit(0)
own = [pynvml.nvmlDeviceGetUtilizationRates(device).gpu for _ in range(20)]
os.wait()
print(json.dumps([before, own, json.loads(os.read(reader, 4096))]))
"""
    before, own, childs = run(pair_server, body)
    for percent in [before, *own, *childs]:
        assert 0 <= percent <= 100
    assert len(childs) == 20


def test_no_server_is_said_in_one_line(pair_server: GpuServer) -> None:
    code = "import pynvml\ntry:\n    pynvml.nvmlInit()\nexcept pynvml.NVMLError as error:\n    print(error.value)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=surroundings(**{**pair_server.shim_environment(), "GPUFERRY_SERVER": "127.0.0.1:1"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "9\n"  # NVML_ERROR_DRIVER_NOT_LOADED
    assert done.stderr.count("\n") == 1
    assert "cannot reach the GPU server 127.0.0.1:1" in done.stderr


def test_a_server_without_nvml_says_so(null_server: GpuServer) -> None:
    code = "import pynvml\ntry:\n    pynvml.nvmlInit()\nexcept pynvml.NVMLError as error:\n    print(error.value)"
    done = null_server.run(sys.executable, "-c", code)
    assert done.stdout == "9\n"
    assert done.stderr.count("\n") == 1
    assert "it has no NVML to read" in done.stderr
