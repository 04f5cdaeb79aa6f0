"""Running things on the software GPU from tests: programs in a process of their own, with settings of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from gpuserver.native import find_native
from gpuserver.softgpu.command import program_environment

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = "gpuserver/softgpu/lib/libcuda.so.1"
NVML = "gpuserver/softgpu/lib/libnvidia-ml.so.1"


def environment(**settings: str) -> dict[str, str]:
    """This process's environment for a program on the software GPU.

    `memory_mib="64"` sets GPUFERRY_SOFTGPU_MEMORY_MIB; a name in capitals is a variable as it is.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GPUFERRY_SOFTGPU_", "CUDA_VISIBLE"))}
    own = {k if k.isupper() else f"GPUFERRY_SOFTGPU_{k.upper()}": value for k, value in settings.items()}
    return program_environment(find_native(LIBRARY).parent, inherited | {"PYTHONPATH": str(ROOT)} | own)


def run(program: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; its output is text."""
    surroundings = environment(**settings)
    return subprocess.run(program, env=surroundings, capture_output=True, text=True, timeout=300, check=False)


def run_python(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code to its end."""
    return run([sys.executable, "-c", code], **settings)


def output_of(code: str, **settings: str) -> str:
    """The standard output of Python code that must succeed."""
    done = run_python(code, **settings)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Driver:
    """The software libcuda.so.1 in this process, with device 0's primary context current in the calling thread."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(find_native(LIBRARY)))
        self.check("cuInit", 0)
        self.context = ctypes.c_void_p()
        self.check("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.check("cuCtxSetCurrent", self.context)

    def call(self, function: str, *arguments: object) -> int:
        """The CUresult of a function."""
        return int(getattr(self.library, function)(*arguments))

    def check(self, function: str, *arguments: object) -> None:
        """Calls a function that must succeed."""
        result = self.call(function, *arguments)
        assert result == 0, f"{function}: {result}"

    def load(self, image: bytes) -> tuple[int, ctypes.c_void_p]:
        """Result and module of cuModuleLoadData; a NUL is put behind the image."""
        module = ctypes.c_void_p()
        return self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image)), module
