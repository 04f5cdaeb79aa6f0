"""NVML of the software GPU, through pynvml as programs use it."""

from __future__ import annotations

import subprocess

import pytest
from software_gpu import NVML, output_of

from gpuserver.native import find_native
from gpuserver.protocol.header import find_cuda_include
from gpuserver.protocol.nvml_header import read_functions
from gpuserver.softgpu.nvml.generate import PRIVATE

TWO = {
    "devices": "2",
    "memory_mib": "512,1024",
    "name": "First,Second",
    "uuid": "GPU-00000000-0000-0000-0000-0000000000a1,GPU-00000000-0000-0000-0000-0000000000b2",
    "pci": "0000:41:00,0001:c1:00",
    "serial": "S1,S2",
}


def ask(code: str, **settings: str) -> str:
    return output_of("import pynvml as n\nn.nvmlInit()\n" + code, **settings).strip()


def test_every_function_of_the_header_is_exported() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(find_native(NVML))], capture_output=True, text=True, check=True
    )
    exported = {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines()}
    declared = {function.symbol for function in read_functions(find_cuda_include())}
    assert exported == declared | set(PRIVATE)
    assert len(declared) > 400


def test_devices_are_those_of_the_configuration() -> None:
    code = """
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    pci = n.nvmlDeviceGetPciInfo(h)
    print(n.nvmlDeviceGetName(h), n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetSerial(h), n.nvmlDeviceGetIndex(h),
          pci.busId, pci.busIdLegacy, n.nvmlDeviceGetMemoryInfo(h).total >> 20, sep="|")
"""
    assert ask(code, **TWO).splitlines() == [
        "First|GPU-00000000-0000-0000-0000-0000000000a1|S1|0|00000000:41:00.0|0000:41:00.0|512",
        "Second|GPU-00000000-0000-0000-0000-0000000000b2|S2|1|00000001:C1:00.0|0001:C1:00.0|1024",
    ]


def test_a_device_is_found_by_each_of_its_names() -> None:
    code = """
handles = [
    n.nvmlDeviceGetHandleByUUID("GPU-00000000-0000-0000-0000-0000000000b2"),
    n.nvmlDeviceGetHandleByPciBusId("0001:C1:00.0"),
    n.nvmlDeviceGetHandleByPciBusId("00000001:c1:00.0"),
    n.nvmlDeviceGetHandleBySerial("S2"),
]
print([n.nvmlDeviceGetIndex(h) for h in handles])
"""
    assert ask(code, **TWO) == "[1, 1, 1, 1]"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ('n.nvmlDeviceGetHandleByUUID("GPU-no")', "NotFound"),
        ('n.nvmlDeviceGetHandleByPciBusId("0000:99:00.0")', "NotFound"),
        ('n.nvmlDeviceGetHandleByPciBusId("nonsense")', "InvalidArgument"),
        ("n.nvmlDeviceGetHandleByIndex(2)", "InvalidArgument"),
        ("n.nvmlDeviceGetName(n.c_nvmlDevice_t())", "InvalidArgument"),
        ("n.nvmlDeviceGetTemperature(n.nvmlDeviceGetHandleByIndex(0), 0)", "NotSupported"),
        ("n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(0))", "NotSupported"),
        ("n.nvmlDeviceGetEccMode(n.nvmlDeviceGetHandleByIndex(0))", "NotSupported"),
        ("n.nvmlDeviceGetNvLinkState(n.nvmlDeviceGetHandleByIndex(0), 0)", "NotSupported"),
        ("n.nvmlDeviceSetPowerManagementLimit(n.nvmlDeviceGetHandleByIndex(0), 1)", "NotSupported"),
        ("(n.nvmlShutdown(), n.nvmlDeviceGetCount())", "Uninitialized"),
    ],
)
def test_what_cannot_be_answered_is_an_error(call: str, error: str) -> None:
    code = f"""
try:
    print("answered", {call})
except n.NVMLError as problem:
    print(type(problem).__name__)
"""
    assert ask(code, **TWO) == f"NVMLError_{error}"


def test_versions_and_state() -> None:
    code = """
h = n.nvmlDeviceGetHandleByIndex(0)
print(n.nvmlSystemGetCudaDriverVersion(), n.nvmlSystemGetCudaDriverVersion_v2(), n.nvmlSystemGetDriverVersion(),
      n.nvmlSystemGetNVMLVersion())
print(n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetComputeMode(h) == n.NVML_COMPUTEMODE_DEFAULT,
      n.nvmlDeviceGetPersistenceMode(h) == n.NVML_FEATURE_ENABLED, n.nvmlDeviceGetCudaComputeCapability(h),
      n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM), n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM))
print(n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_NVLINK_LINK_COUNT])[0].value.uiVal,
      n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_MEMORY_TEMP])[0].nvmlReturn == n.NVML_ERROR_NOT_SUPPORTED)
"""
    assert ask(code, version="12080", release="570.00", clock_mhz="1500", memory_clock_mhz="900").splitlines() == [
        "12080 12080 570.00 12.570.00",
        "[0, 0] True True (12, 1) 1500 900",
        "0 True",
    ]


def test_peers_and_topology() -> None:
    code = """
READ, NVLINK = 0, 2  # pynvml's constant for READ is a tuple by mistake
a, b = n.nvmlDeviceGetHandleByIndex(0), n.nvmlDeviceGetHandleByIndex(1)
print(n.nvmlDeviceGetP2PStatus(a, b, READ) == n.nvmlDeviceGetP2PStatus(a, a, READ) == n.NVML_P2P_STATUS_OK,
      n.nvmlDeviceGetP2PStatus(a, b, NVLINK) == n.NVML_P2P_STATUS_NOT_SUPPORTED,
      n.nvmlDeviceGetTopologyCommonAncestor(a, b) == n.NVML_TOPOLOGY_SYSTEM,
      [n.nvmlDeviceGetIndex(h) for h in n.nvmlDeviceGetTopologyNearestGpus(a, n.NVML_TOPOLOGY_SYSTEM)])
"""
    assert ask(code, **TWO) == "True True True [1]"
