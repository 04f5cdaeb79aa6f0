"""Runs the corpus: CUDA programs and Python scripts that know nothing of gpuferry, each in every available way.

A way is how a program comes to its GPU. `native`: the software GPU in the program's own process. `forwarded`: a GPU
server on this machine that has the same software GPU. `both`: natively and then forwarded; what the two print and save
must be the same, byte for byte. `sanitized`: natively, built with AddressSanitizer and UBSan (for compiled programs);
`sanitized-forwarded`: shim, worker and software GPU built so.
`hardware`: a real GPU and NVIDIA's driver; `hardware-both`: so, and then forwarded to a GPU server of this machine's
GPUs, with the same output.
GPUFERRY_WAYS chooses (comma-separated; default `both`); a test body never asks which it is. The option `servers`
spreads a program's GPUs over as many GPU servers where it is forwarded.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "gpuserver" / "forwarding")]

from gpu_server import python_path  # noqa: E402
from program_servers import HardwareServers, ProgramServers  # noqa: E402

from clientagent.run import find_shim  # noqa: E402

BUILD = ROOT / "build" / "programs"
TIME_LIMIT = 560  # seconds; a program that hangs must not hold the suite
Array = npt.NDArray[Any]


def native(options: Mapping[str, object]) -> list[str]:
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "servers"]
    return [sys.executable, "-m", "clientagent.command", "softgpu", "exec", *settings, "--"]


def hardware(options: Mapping[str, object]) -> list[str]:
    if (wanted := int(str(options.get("devices", 1)))) > count_gpus():
        pytest.skip(f"needs {wanted} GPUs")
    return []


@functools.cache
def count_gpus() -> int:
    """How many NVIDIA's driver shows, asked in a process of its own."""
    question = "import ctypes as c; d = c.CDLL('libcuda.so.1'); n = c.c_int(); print(d.cuInit(0), *("
    question += "d.cuDeviceGetCount(c.byref(n)), n.value))"
    asked = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, f"GPUFERRY_WAYS=hardware needs NVIDIA's driver: {asked.stderr}"
    return int(asked.stdout.split()[2])


@functools.cache
def sanitizer_variables() -> dict[str, str]:
    """What makes a process load the parts of `make native-sanitize`; what AddressSanitizer or UBSan find ends it."""
    compiler = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {
        "GPUFERRY_NATIVE": str(ROOT / "build" / "stage-sanitize"),
        "LD_PRELOAD": compiler.stdout.strip(),
        # The interpreter that starts the program leaks by design, and the runtime never frees its tables.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }


def with_sanitizers() -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in sanitizer_variables().items())]


def sanitized(options: Mapping[str, object]) -> list[str]:
    return [*with_sanitizers(), *native(options)]


WAYS: dict[str, Callable[[Mapping[str, object]], list[str]]] = {
    "native": native,
    "sanitized": sanitized,
    "hardware": hardware,
    "hardware-both": hardware,
}
SANITIZED_FORWARDED = "sanitized-forwarded"
HARDWARE_BOTH = "hardware-both"
FORWARDED = frozenset({"forwarded", "both", SANITIZED_FORWARDED, HARDWARE_BOTH})


@dataclass
class Result:
    """What a program left: its output, and the arrays it saved in its folder."""

    status: int
    output: str
    errors: str
    folder: Path

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    def array(self, name: str, dtype: npt.DTypeLike) -> Array:
        return np.fromfile(self.folder / name, dtype=dtype)


@dataclass
class Runner:
    """Runs one program in one way, in a folder of its own."""

    way: str
    folder: Path
    servers: ProgramServers | None  # for the ways that forward

    def __call__(
        self,
        command: Sequence[str | Path],
        *,
        options: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        status: int = 0,
        library: str = "",
    ) -> Result:
        """`library`: what the program loads beside libcuda; without it in the client's folder, it runs natively."""
        options = options or {}
        words, variables = list(map(str, command)), dict(environment or {})
        forwards = self.servers is not None and (not library or (find_shim() / library).exists())
        if self.servers is None or not forwards:
            # Processes share a software GPU's memory by its UUID, as they would a real one's: each program gets its
            # own.
            uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(int(str(options.get("devices", 1)))))
            variables = {"GPUFERRY_SOFTGPU_UUID": uuids, **variables}
            return self.run([*WAYS.get(self.way, native)(options), *words], variables, status)
        server = self.servers.with_options(options)
        alone_in = WAYS.get(self.way, native)(options)
        if self.way == SANITIZED_FORWARDED:
            return self.run([*with_sanitizers(), *server.prefix(), *words], variables, status)
        # A GPU of another size cannot be had; a slice of that size can.
        if self.way == "forwarded" or (self.way == HARDWARE_BOTH and "memory" in options):
            return self.run([*server.prefix(), *words], variables, status)
        before = self.files()
        same_gpus = {"GPUFERRY_SOFTGPU_UUID": server.uuids} if server.uuids else {}
        alone = self.run([*alone_in, *words], same_gpus | variables, status)
        saved = self.files()
        for name in saved:
            (self.folder / name).unlink()
        for name, content in before.items():
            (self.folder / name).write_bytes(content)
        result = self.run([*server.prefix(), *words], variables, status)
        assert result.output == alone.output, f"natively:\n{alone.output}\nforwarded:\n{result.output}"
        different = [n for n in {**saved, **self.files()} if saved.get(n) != self.files().get(n)]
        assert not different, f"natively and forwarded the program saved different files: {different}"
        return result

    def files(self) -> dict[str, bytes]:
        """What lies in the program's folder; caches in folders below do not count."""
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}

    def run(self, command: Sequence[str], variables: Mapping[str, str], status: int) -> Result:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": python_path(), **variables},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        shown = f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == status, shown
        return Result(done.returncode, done.stdout, done.stderr, self.folder)


@pytest.fixture(scope="session")
def program_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ProgramServers]]:
    """The servers for a way: of ordinary parts, of sanitized ones, of this machine's GPUs."""
    with ExitStack() as stack:

        @functools.cache
        def of(way: str) -> ProgramServers:
            folder = tmp_path_factory.mktemp("servers")
            if way == HARDWARE_BOTH:
                return HardwareServers(stack, folder)
            return ProgramServers(stack, folder, sanitizer_variables() if way == SANITIZED_FORWARDED else None)

        yield lambda way: of(way if way in (HARDWARE_BOTH, SANITIZED_FORWARDED) else "")


@pytest.fixture(params=os.environ.get("GPUFERRY_WAYS", "both").split(","))
def run_program(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    servers = None
    if request.param in FORWARDED:
        servers = request.getfixturevalue("program_servers")(request.param)
    return Runner(request.param, tmp_path, servers)


@functools.cache
def toolkit() -> Path:
    """The CUDA toolkit of the PyPI wheels, else the one whose nvcc is on the PATH: bin/nvcc, include, lib."""
    for place in map(Path, sys.path):
        if (place / "nvidia" / "cu13" / "bin" / "nvcc").exists():
            return place / "nvidia" / "cu13"
    if found := shutil.which("nvcc"):
        return Path(found).resolve().parents[1]
    raise RuntimeError(
        "no nvcc: install the wheels nvidia-cuda-nvcc, nvidia-nvvm, nvidia-cuda-runtime, nvidia-cuda-cccl"
    )


def build(name: str) -> Path:
    """The executable of cuda/`name`.cu, compiled once for a given text, toolkit and options."""
    source, header = HERE / "cuda" / f"{name}.cu", HERE / "cuda" / "program.h"
    # Machine code for one architecture beside its PTX: what nvcc makes of a usual command line. Runtime linked in.
    options = ["-std=c++17", "-O2", "-arch=sm_90", "-cudart=static"]
    options.append(f'-DPROGRAM_NAME="{source.name}"')
    key = hashlib.sha256(b"\0".join([source.read_bytes(), header.read_bytes(), " ".join(options).encode()]))
    key.update(str((toolkit() / "bin" / "nvcc").stat().st_size).encode())
    program = BUILD / f"{name}-{key.hexdigest()[:16]}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may want it at once
        if not program.exists():
            nvcc = toolkit() / "bin" / "nvcc"
            partial = program.with_suffix(".new")
            plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer's
            command = [nvcc, *options, "-o", partial, source]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BUILD, env=plain)
            assert done.returncode == 0, f"nvcc {source.name}:\n{done.stdout}{done.stderr}"
            partial.replace(program)
    return program


@pytest.fixture
def run_cuda(run_program: Runner) -> Iterator[Callable[..., Result]]:
    """run_cuda(name, inputs={file: array}, arguments=(), options={softgpu option: value}, status=0)."""

    def run(
        name: str,
        inputs: Mapping[str, Array] | None = None,
        arguments: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        status: int = 0,
    ) -> Result:
        for file, values in (inputs or {}).items():
            values.tofile(run_program.folder / file)
        return run_program([build(name), run_program.folder, *arguments], options=options, status=status)

    return run


@pytest.fixture
def run_python(run_program: Runner) -> Iterator[Callable[..., Result]]:
    """run_python(script of python/, arguments=(), options={}, environment={})."""

    def run(
        name: str,
        arguments: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        library: str = "",
    ) -> Result:
        # What NVRTC made is kept between runs, beside the built programs: compiling a hundred kernels takes minutes.
        cache = {"CUPY_CACHE_DIR": str(BUILD / "cupy"), "NUMBA_CACHE_DIR": str(run_program.folder / "numba")}
        script = HERE / "python" / f"{name}.py"
        return run_program(
            [sys.executable, script, *arguments],
            options=options,
            environment={**cache, **(environment or {})},
            library=library,
        )

    return run
