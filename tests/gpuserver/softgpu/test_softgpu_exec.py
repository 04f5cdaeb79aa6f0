"""`gpuferry softgpu exec` and `info`: programs in processes of their own, as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from images import nvcc, toolkit
from software_gpu import ROOT, environment, run

from gpuserver.softgpu.command import HAND_OVER_PTX, program_environment

PROGRAM = """
#include <cstdio>
#include <vector>
__constant__ float scale[4] = {1, 2, 3, 4};
__device__ int blocks = 5;
__global__ void saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i] * scale[i & 3];
    if (threadIdx.x == 0) atomicAdd(&blocks, 1);
}
int main() {
    int n = 1 << 12, runtime = 0, counted = 0;
    std::vector<float> x(n, 2.f), y(n, 1.f);
    float *dx, *dy;
    cudaMalloc(&dx, n * 4);
    cudaMalloc(&dy, n * 4);
    cudaMemcpy(dx, x.data(), n * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(dy, y.data(), n * 4, cudaMemcpyHostToDevice);
    saxpy<<<n / 256, 256>>>(3.f, dx, dy, n);
    cudaMemcpy(y.data(), dy, n * 4, cudaMemcpyDeviceToHost);
    cudaMemcpyFromSymbol(&counted, blocks, 4);
    double sum = 0;
    for (float v : y) sum += v;
    cudaRuntimeGetVersion(&runtime);
    cudaError_t error = cudaDeviceSynchronize();
    printf("%d %s %.1f %d\\n", runtime / 1000, cudaGetErrorName(error), sum, counted);
    cudaDeviceReset();
    return error != cudaSuccess;
}
"""
EXPECTED = f"cudaSuccess {4096 * 8.5:.1f} 21"


def gpuferry(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GPUFERRY_SOFTGPU_")}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "clientagent.command", "softgpu", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def execute(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return gpuferry("exec", *arguments, **variables)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.mark.parametrize("compression", ["default", "speed", "size", "none"])
def test_a_program_of_cuda_13_with_its_static_runtime(folder: Path, compression: str) -> None:
    mode = [] if compression == "default" else [f"--compress-mode={compression}"]
    program = nvcc(PROGRAM, folder / f"saxpy-{compression}", "-arch=compute_75", *mode)
    done = execute("--", str(program))
    assert (done.stdout.strip(), done.stderr, done.returncode) == (f"13 {EXPECTED}", "", 0)


def test_a_program_of_cuda_12_with_its_static_runtime(folder: Path) -> None:
    """The same source on the runtime 12: it asks the driver for other entry points and loads kernels as functions."""
    runtime = toolkit().parent / "cuda_runtime"
    libraries = [f"-L{runtime / 'lib'}", "-lcudart_static", "-ldl", "-lpthread", "-lrt"]
    program = nvcc(
        PROGRAM, folder / "saxpy-12", "-arch=compute_75", "-cudart", "none", f"-I{runtime / 'include'}", *libraries
    )
    done = execute("--", str(program))
    assert (done.stdout.strip(), done.stderr, done.returncode) == (f"12 {EXPECTED}", "", 0)


def test_separately_compiled_units(folder: Path) -> None:
    """nvcc -rdc=true: the wrapper of version 2 lists the fatbins of the units."""
    twice = nvcc("__device__ int twice(int x) { return 2 * x; }", folder / "twice.o", "-dc", "-arch=compute_75")
    source = """
#include <cstdio>
__device__ int twice(int);
__global__ void kernel(int *out) { *out = twice(21); }
int main() {
    int *memory, result = 0;
    cudaMalloc(&memory, 4);
    kernel<<<1, 1>>>(memory);
    cudaMemcpy(&result, memory, 4, cudaMemcpyDeviceToHost);
    printf("%d %s\\n", result, cudaGetErrorName(cudaGetLastError()));
}
"""
    program = nvcc(source, folder / "linked", "-rdc=true", "-arch=compute_75", str(twice))
    assert execute("--", str(program)).stdout == "42 cudaSuccess\n"


def test_a_program_with_machine_code_only_is_told_so(folder: Path) -> None:
    program = nvcc(PROGRAM, folder / "saxpy-machine", "-gencode", "arch=compute_80,code=sm_80")
    done = execute("--", str(program))
    # cudaGetLastError was not asked; the memory was not touched.
    assert done.stdout.split()[2:] == ["4096.0", "0"]
    assert "holds no PTX that a device of compute capability 12.1 can run" in done.stderr


def test_cupy_as_it_comes() -> None:
    done = execute("--", sys.executable, "-c", "import cupy as c; print(int(c.arange(10**6).sum()))")
    assert (done.stdout, done.returncode) == ("499999500000\n", 0)


def test_numba_as_it_comes() -> None:
    code = """
from numba import cuda
import numpy
@cuda.jit
def add(x, y, out):
    i = cuda.grid(1)
    if i < x.size:
        out[i] = x[i] + y[i]
x = numpy.arange(1000, dtype=numpy.float32)
out = numpy.zeros_like(x)
add[4, 256](x, x, out)
print((out == 2 * x).all())
"""
    done = execute("--", sys.executable, "-W", "ignore", "-c", code)
    assert (done.stdout, done.returncode) == ("True\n", 0)


def test_options_reach_the_devices(folder: Path) -> None:
    code = """
import json, pynvml as n
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
print(json.dumps([(n.nvmlDeviceGetName(h), n.nvmlDeviceGetMemoryInfo(h).total >> 20) for h in handles]))
"""
    done = execute("--devices", "2", "--memory", "64,128", "--name", "A,B", "--", sys.executable, "-c", code)
    assert json.loads(done.stdout) == [["A", 64], ["B", 128]]
    file = folder / "devices.ini"
    file.write_text("devices = 2\n# all\n[device]\nmemory_mib = 32\n[device 1]\nname = Other\n")
    done = execute("--config", str(file), "--", sys.executable, "-c", code)
    assert json.loads(done.stdout) == [["gpuferry Software GPU", 32], ["Other", 32]]
    # The command line wins.
    done = execute("--config", str(file), "--devices", "1", "--", sys.executable, "-c", code)
    assert json.loads(done.stdout) == [["gpuferry Software GPU", 32]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("devices = many", ":1: devices = many: must be a whole number"),
        ("[device]\nmemory = 5", ":2: a device has no setting memory"),
        ("[gpu]", ":1: a section is"),
        ("nonsense", ":1: neither a [section] nor a setting"),
        ("devices = 2\n[device]\npci = 0000:41:00", "two devices have the same id 0000:41:00.0"),
        ("[device 0]\nuuid = GPU-12", ":2: uuid = GPU-12: must look like"),
    ],
)
def test_a_wrong_setting_is_named_and_leaves_no_device(folder: Path, text: str, complaint: str) -> None:
    file = folder / "wrong.ini"
    file.write_text(text)
    done = gpuferry("info", "--config", str(file))
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "no device" in done.stdout


def test_info_says_what_a_program_would_see() -> None:
    uuid = "GPU-00000000-0000-0000-0000-00000000cafe"
    done = gpuferry("info", "--memory", "256", "--multiprocessors", "3", GPUFERRY_SOFTGPU_UUID=uuid)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "CUDA      13.5",
        f"device 0  gpuferry Software GPU, 256 MiB, compute capability 12.1, 3 multiprocessors, 0000:01:00.0, {uuid}",
    ]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, "ABC"),
        ("1", "B"),
        ("2,0", "CA"),
        ("GPU-00000000-0000-0000-0000-00000000000b", "B"),
        ("GPU-00000000-0000-0000-0000-00000000000c,0", "CA"),
        ("0,7,1", "A"),
        ("GPU-0000", ""),
        ("0,0", ""),
        ("", ""),
    ],
)
def test_cuda_visible_devices_chooses_and_orders(visible: str | None, names: str) -> None:
    uuids = ",".join(f"GPU-00000000-0000-0000-0000-00000000000{digit}" for digit in "abc")
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = gpuferry("info", "--devices", "3", "--name", "A,B,C", GPUFERRY_SOFTGPU_UUID=uuids, **variables)
    lines = [line for line in done.stdout.splitlines() if line.startswith("device")]
    assert "".join(line.split("  ")[1].split(",")[0] for line in lines) == names


def test_exit_status_and_signals_are_the_programs_own() -> None:
    assert execute("--", "sh", "-c", "exit 7").returncode == 7
    assert execute("--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert execute("sh", "-c", "exit 3").returncode == 3
    missing = execute("--", "no-such-program-here")
    assert (missing.returncode, missing.stderr) == (127, "gpuferry softgpu: no-such-program-here: no such program\n")
    assert execute("--", str(ROOT)).returncode == 126
    assert execute().returncode == 2


def test_the_library_path_of_the_program_is_kept() -> None:
    environment = program_environment(Path("/lib/gpuferry"), {"LD_LIBRARY_PATH": "/mine", "CUPY_COMPILE_WITH_PTX": "0"})
    assert environment["LD_LIBRARY_PATH"] == "/lib/gpuferry:/mine"
    assert environment["CUPY_COMPILE_WITH_PTX"] == "0"
    assert program_environment(Path("/lib/gpuferry"), {}).items() >= HAND_OVER_PTX.items()


def test_processes_share_a_device_and_nvml_sees_it() -> None:
    """cuMemGetInfo of one process, and NVML, count what the other holds; both drop it when that one is killed."""
    code = """
import subprocess, sys, time
import cupy, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
holder = subprocess.Popen(
    [sys.executable, "-c", "import cupy; a = cupy.zeros(40 << 20, 'u1'); print('ready', flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
holder.stdout.readline()
mine = cupy.zeros(8 << 20, "u1")
used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
free, total = cupy.cuda.runtime.memGetInfo()
print(used >> 20 >= 48, total - free == used)
processes = {p.pid: p.usedGpuMemory >> 20 for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
print(processes[holder.pid] >= 40, len(processes))
try:
    cupy.zeros(24 << 20, "u1")
except cupy.cuda.memory.OutOfMemoryError:
    print("out of memory")
holder.kill()
holder.wait()
cupy.zeros(24 << 20, "u1")
print(pynvml.nvmlDeviceGetMemoryInfo(handle).used >> 20 < 48, len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)))
"""
    uuid = "GPU-00000000-0000-0000-0000-0000000000ee"
    done = run([sys.executable, "-c", code], memory_mib="64", uuid=uuid)
    assert done.stdout.splitlines() == ["True True", "True 2", "out of memory", "True 1"], done.stderr


def test_what_killed_processes_leave_in_shared_memory_goes() -> None:
    """A device's file in shared memory goes once nobody uses the device: the next process on any device sees to it."""
    code = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
print(cuda.cuInit(0), flush=True)
sys.stdin.read()
"""

    def file_of(device: str) -> Path:
        return Path(f"/dev/shm/gpuferry-softgpu-{os.geteuid()}-{device}")

    def start(device: str) -> subprocess.Popen[bytes]:
        surroundings = environment(uuid=device)
        started = subprocess.Popen(
            [sys.executable, "-c", code], env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert started.stdout is not None
        assert started.stdout.readline() == b"0\n"
        return started

    ended, lasting = (f"GPU-{uuid.uuid4()}" for _ in range(2))
    with start(ended) as victim, start(lasting) as other:
        victim.kill()
        victim.wait()
        assert file_of(lasting).exists()
        with start(lasting) as third:
            assert not file_of(ended).exists()
            assert file_of(lasting).exists()
            third.communicate()
        # The first of the two that share it is still there.
        with start(f"GPU-{uuid.uuid4()}") as fourth:
            assert file_of(lasting).exists()
            fourth.communicate()
        other.communicate()


def test_who_looks_on_forgets_nobody_that_has_just_come() -> None:
    """Processes come as others are killed and take their places, while NVML is asked without a pause."""
    code = """
import ctypes, subprocess, sys, threading
import pynvml
HOLDER = '''
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, memory = ctypes.c_void_p(), ctypes.c_void_p()
print(cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) or cuda.cuCtxSetCurrent(context)
      or cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(8 << 20)), flush=True)
sys.stdin.read()
'''
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
def start():
    return subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
done = threading.Event()
def look():
    while not done.is_set():
        pynvml.nvmlDeviceGetMemoryInfo(device)
watchers = [threading.Thread(target=look) for _ in range(2)]
for watcher in watchers:
    watcher.start()
holder, counted = start(), []
for turn in range(12):
    assert holder.stdout.readline() == "0\\n"
    others = {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(device)}
    counted.append(others == {holder.pid: 8 << 20} and pynvml.nvmlDeviceGetMemoryInfo(device).used == 8 << 20)
    coming = start()
    holder.kill()
    holder.wait()
    holder = coming
done.set()
holder.communicate()
print(counted == [True] * 12)
"""
    done = run([sys.executable, "-c", code], memory_mib="64", uuid=f"GPU-{uuid.uuid4()}")
    assert done.stdout == "True\n", done.stderr


def test_nvml_sees_a_busy_device() -> None:
    code = """
import threading, time
import cupy, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
idle = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
spin = cupy.RawKernel('extern "C" __global__ void spin(volatile int *stop) { while (!*stop); }', "spin")
stop = cupy.cuda.alloc_pinned_memory(4)
flag = memoryview(stop).cast("B").cast("i")
flag[0] = 0
spin((1,), (1,), (cupy.ndarray(1, "i4", cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(stop.ptr, 4, stop), 0)),))
for _ in range(300):  # the rate is of the last second or so, and the machine may be busy with other things
    time.sleep(0.1)
    busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    if busy > 50:
        break
flag[0] = 1
cupy.cuda.Device().synchronize()
print(idle, busy)
"""
    done = run([sys.executable, "-c", code], uuid="GPU-00000000-0000-0000-0000-0000000000bb")
    idle, busy = map(int, done.stdout.split())
    assert idle == 0
    assert busy > 50


def test_runtimes_are_told_of_a_device_that_no_library_knows() -> None:
    """What compilers and linkers ask the driver for is a capability they know; libraries ask the CUDA runtime."""
    runtime = next(toolkit().glob("lib/libcudart.so.*"))
    code = f"""
import ctypes, os
def capability(function):
    values = ctypes.c_int(), ctypes.c_int()
    for value, attribute in zip(values, (75, 76)):
        assert function(ctypes.byref(value), attribute, 0) == 0
    return "%d.%d" % tuple(v.value for v in values)
cuda, runtime = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL({str(runtime)!r})
assert cuda.cuInit(0) == 0
print(capability(cuda.cuDeviceGetAttribute), capability(runtime.cudaDeviceGetAttribute))
print(capability(cuda.cuDeviceGetAttribute), capability(runtime.cudaDeviceGetAttribute))
"""
    program = ("--", sys.executable, "-c", code)
    both = "GPUFERRY_SOFTGPU_RUNTIME_COMPUTE_CAPABILITY"
    assert execute(*program).stdout == "12.1 99.0\n" * 2
    assert execute("--trace", *program).stdout == "12.1 99.0\n" * 2
    assert execute("--compute-capability", "9.0", *program).stdout == "9.0 9.0\n" * 2
    assert execute("--compute-capability", "9.0", *program, **{both: "10.0"}).stdout == "9.0 10.0\n" * 2
    assert execute(*program, **{both: "12.1"}).stdout == "12.1 12.1\n" * 2
    wrong = execute(*program, **{both: "twelve"})
    assert "runtime_compute_capability = twelve: must look like 9.0" in wrong.stderr
