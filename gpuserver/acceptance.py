"""The acceptance test of a GPU server: CuPy on each GPU; prints one line of JSON.

    python -m gpuserver.acceptance [--driver softgpu] [--memory-mib N] [--set NAME=VALUE]...

For each GPU: allocate, copy to it and back and compare, compute and compare with NumPy, measure bandwidth, and compare
the count of ECC errors before and after. Exit status 0 when all passed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pynvml

from gpuserver.gpus import NvmlError, load_nvml
from gpuserver.native import find_native

SOFTGPU = "gpuserver/softgpu/lib/libcuda.so.1"
READY = "GPUFERRY_ACCEPTANCE"
"""Set once the environment is right: libraries are looked for in the path the process was started with."""
REPEAT = 3


def ecc_errors(ordinal: int) -> str:
    """Uncorrected errors since the driver was loaded, or why they are not counted."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(ordinal)
        count = pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        )
        return str(count)
    except pynvml.NVMLError as error:
        return f"not counted ({error})"


def best_gb_s(count: int, action: Any, settle: Any) -> float:
    """The best rate of a few runs, in GB/s of `count` bytes."""
    rates = []
    for _ in range(REPEAT):
        start = time.perf_counter()
        action()
        settle()
        rates.append(count / 1e9 / max(time.perf_counter() - start, 1e-9))
    return round(max(rates), 3)


def try_gpu(cupy: Any, numpy: Any, ordinal: int, memory_mib: int) -> dict[str, Any]:
    """One GPU's result; `error` is empty when it passed."""
    properties = cupy.cuda.runtime.getDeviceProperties(ordinal)
    result: dict[str, Any] = {"ordinal": ordinal, "name": properties["name"].decode(), "error": ""}
    result["uuid"] = bytes(properties["uuid"]).hex() if "uuid" in properties else ""
    result["memory_mib"] = int(properties["totalGlobalMem"]) >> 20
    result["ecc_before"] = ecc_errors(ordinal)
    with cupy.cuda.Device(ordinal) as device:
        settle = device.synchronize
        free, _ = cupy.cuda.runtime.memGetInfo()
        size = min(memory_mib << 20, free // 4) // 8
        result["allocated_mib"] = size * 8 >> 20
        numbers = numpy.random.default_rng(ordinal).standard_normal(size)
        there, other = cupy.empty(size), cupy.empty(size)
        result["copy_in_gb_s"] = best_gb_s(numbers.nbytes, lambda: there.set(numbers), settle)
        back = numpy.empty_like(numbers)
        result["copy_out_gb_s"] = best_gb_s(numbers.nbytes, lambda: there.get(out=back), settle)
        if not numpy.array_equal(back, numbers):
            result["error"] = "what was copied to it and back differs"
        result["on_device_gb_s"] = best_gb_s(2 * numbers.nbytes, lambda: other.__setitem__(slice(None), there), settle)
        computed = cupy.asnumpy(cupy.sqrt(cupy.abs(other)) * 2.0 + 1.0)
        if not numpy.array_equal(computed, numpy.sqrt(numpy.abs(numbers)) * 2.0 + 1.0):
            result["error"] = "CuPy and NumPy differ"
        if int(cupy.arange(10**6).sum()) != 499999500000:
            result["error"] = "a sum is wrong"
    result["ecc_after"] = ecc_errors(ordinal)
    if not result["error"] and result["ecc_after"] != result["ecc_before"]:
        result["error"] = f"ECC errors went from {result['ecc_before']} to {result['ecc_after']}"
    result["passed"] = not result["error"]
    return result


def judge(memory_mib: int) -> dict[str, Any]:
    """The whole server's result."""
    import cupy
    import numpy

    gpus = []
    for ordinal in range(cupy.cuda.runtime.getDeviceCount()):
        try:
            gpus.append(try_gpu(cupy, numpy, ordinal, memory_mib))
        except Exception as error:  # whatever CuPy raises is this GPU's result
            gpus.append({"ordinal": ordinal, "name": "", "passed": False, "error": f"{type(error).__name__}: {error}"})
    return {
        "passed": bool(gpus) and all(gpu["passed"] for gpu in gpus),
        "gpus": gpus,
        "cupy": cupy.__version__,
        "driver": cupy.cuda.runtime.driverGetVersion(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpuserver.acceptance", description=__doc__)
    parser.add_argument("--driver", default="", help="softgpu: the GPUs in software that come with gpuferry")
    parser.add_argument("--memory-mib", type=int, default=0, help="default: 1024, of GPUs in software 16")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the service")
    given = parser.parse_args()
    soft = given.driver == "softgpu"
    if not os.environ.get(READY):
        variables = dict(each.split("=", 1) for each in given.set)
        environment = {**os.environ, **variables, READY: "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        folders = [str(found) for each in sys.path if each for found in sorted(Path(each).glob("nvidia/*/lib"))]
        if soft:
            # GPUs in software execute PTX only; CuPy would hand over machine code.
            folders.insert(0, str(find_native(SOFTGPU).parent))
            environment["CUPY_COMPILE_WITH_PTX"] = "1"
        # CuPy finds the CUDA wheels beside it in Python's own folders only, not in those of `python_path`.
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH", "")])])
        os.execve(sys.executable, [sys.executable, "-m", "gpuserver.acceptance", *sys.argv[1:]], environment)  # noqa: S606
    try:
        load_nvml(Path(find_native(SOFTGPU)).parent if soft else None)
        result = judge(given.memory_mib or (16 if soft else 1024))
    except (ImportError, NvmlError) as missing:
        result = {"passed": False, "gpus": [], "error": f"{type(missing).__name__}: {missing}"}
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
