"""What NVML (pynvml) says of every device, and that CUDA says the same."""

import cupy
import pynvml

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
        digits == bytes(properties["uuid"]).hex() if "uuid" in properties else "no uuid",
        memory.total >= properties["totalGlobalMem"],
        memory.used + memory.free <= memory.total,
        pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)),
        pynvml.nvmlDeviceGetCudaComputeCapability(handle) == (properties["major"], properties["minor"]),
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
