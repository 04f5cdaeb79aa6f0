"""The engine's C test interface (gpuserver/softgpu/engine/testing.h) through ctypes: compile PTX, launch on buffers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[4]
FAULTS = (
    "none",
    "illegal_address",
    "misaligned_address",
    "illegal_instruction",
    "trap",
    "assertion",
    "invalid_pc",
    "invalid_address_space",
    "stack_overflow",
    "cancelled",
)


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_uint64), ("writable", ctypes.c_uint32))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("dynamic_shared_bytes", ctypes.c_uint32),
        ("cooperative", ctypes.c_uint32),
        ("parameters", ctypes.c_void_p),
        ("parameter_bytes", ctypes.c_uint64),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("buffer_count", ctypes.c_uint64),
    )


class EngineError(RuntimeError):
    """A compile error, or a fault of a launch; `fault` is its kind."""

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(f"{fault}: {message}")
        self.fault = fault


@cache
def library() -> ctypes.CDLL:
    # GPUFERRY_ENGINE names another build than the ordinary one (tests/long/sanitized.py).
    folder = Path(os.environ.get("GPUFERRY_ENGINE", ROOT / "build" / "native"))
    built = sorted(folder.rglob("libsoftgpu_engine_test.so"))
    if not built:
        raise RuntimeError(f"{folder} has no libsoftgpu_engine_test.so: run `make native` first")
    loaded = ctypes.CDLL(str(built[0]))
    loaded.softgpu_test_compile.restype = ctypes.c_void_p
    loaded.softgpu_test_compile.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64]
    loaded.softgpu_test_release.argtypes = [ctypes.c_void_p]
    loaded.softgpu_test_kernel.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    loaded.softgpu_test_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.POINTER(_Launch),
        ctypes.c_char_p,
        ctypes.c_uint64,
    ]
    loaded.softgpu_test_output.restype = ctypes.c_char_p
    loaded.softgpu_test_output.argtypes = [ctypes.c_void_p]
    return loaded


class Program:
    """A compiled PTX text."""

    def __init__(self, text: str) -> None:
        error = ctypes.create_string_buffer(4096)
        self._handle = library().softgpu_test_compile(text.encode(), error, len(error))
        if not self._handle:
            raise EngineError("compile", error.value.decode())

    def close(self) -> None:
        if self._handle:
            library().softgpu_test_release(self._handle)
            self._handle = None

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(
        self,
        kernel: str,
        *arguments: npt.NDArray[np.generic] | np.generic,
        grid: Sequence[int] = (1, 1, 1),
        block: Sequence[int] = (32, 1, 1),
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        """Arrays go as pointers (and may be written), NumPy scalars by value. Raises EngineError on a fault."""
        index = library().softgpu_test_kernel(self._handle, kernel.encode())
        if index < 0:
            raise EngineError("compile", f"no kernel {kernel}")
        parameters = bytearray()
        arrays = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                arrays.append(argument)
                raw, size = int(argument.ctypes.data).to_bytes(8, "little"), 8
            else:
                raw, size = argument.tobytes(), argument.itemsize
            parameters += bytes(-len(parameters) % size) + raw
        buffers = (_Buffer * max(len(arrays), 1))(*(_Buffer(a.ctypes.data, a.nbytes, 1) for a in arrays))
        parameter_bytes = (ctypes.c_ubyte * max(len(parameters), 1)).from_buffer_copy(bytes(parameters) or b"\0")
        request = _Launch(
            grid=(ctypes.c_uint32 * 3)(*grid, *(1,) * (3 - len(grid))),
            block=(ctypes.c_uint32 * 3)(*block, *(1,) * (3 - len(block))),
            dynamic_shared_bytes=shared_bytes,
            cooperative=int(cooperative),
            parameters=ctypes.cast(parameter_bytes, ctypes.c_void_p),
            parameter_bytes=len(parameters),
            buffers=buffers,
            buffer_count=len(arrays),
        )
        message = ctypes.create_string_buffer(4096)
        fault = library().softgpu_test_run(self._handle, index, ctypes.byref(request), message, len(message))
        if fault:
            raise EngineError(FAULTS[fault], message.value.decode())

    @property
    def output(self) -> str:
        return str(library().softgpu_test_output(self._handle).decode())
