"""What NVML (pynvml) says of every device, and that CUDA says the same."""

import ctypes

import cupy
import pynvml

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
driver_api = ctypes.CDLL("libcuda.so.1")


def attribute(which: int, device: int) -> int:
    """What the driver says: the software GPU tells the runtime another capability, so that libraries give their PTX."""
    value = ctypes.c_int()
    assert driver_api.cuDeviceGetAttribute(ctypes.byref(value), which, device) == 0
    return value.value


pynvml.nvmlInit()
print("devices", pynvml.nvmlDeviceGetCount())
driver = pynvml.nvmlSystemGetDriverVersion()
print(
    "driver version",
    driver.count(".") >= 1,
    pynvml.nvmlSystemGetCudaDriverVersion() == cupy.cuda.runtime.driverGetVersion(),
)
for index in range(pynvml.nvmlDeviceGetCount()):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    digits = uuid.removeprefix("GPU-").replace("-", "")
    print(
        "device",
        index,
        pynvml.nvmlDeviceGetName(handle) == properties["name"].decode(),
        # CuPy ends the sixteen bytes at the first zero, as if they were text.
        bytes(properties["uuid"]).partition(b"\0")[0] == bytes.fromhex(digits).partition(b"\0")[0],
        memory.total >= properties["totalGlobalMem"],
        memory.used + memory.free <= memory.total,
        pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)),
        pynvml.nvmlDeviceGetCudaComputeCapability(handle) == (attribute(MAJOR, index), attribute(MINOR, index)),
    )
    print("utilization", 0 <= pynvml.nvmlDeviceGetUtilizationRates(handle).gpu <= 100)
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
held = cupy.zeros(64 << 20, dtype=cupy.uint8)
cupy.cuda.Device().synchronize()
print("memory in use grows", pynvml.nvmlDeviceGetMemoryInfo(handle).used - before >= 64 << 20)
try:
    pynvml.nvmlDeviceGetHandleByIndex(99)
except pynvml.NVMLError as error:
    print("no such device", error.value == pynvml.NVML_ERROR_INVALID_ARGUMENT)
pynvml.nvmlShutdown()
try:
    pynvml.nvmlDeviceGetCount()
except pynvml.NVMLError as error:
    print("after shutdown", error.value == pynvml.NVML_ERROR_UNINITIALIZED)
