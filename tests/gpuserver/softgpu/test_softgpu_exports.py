"""The exported surface of the software libcuda.so.1: symbols, cuGetProcAddress, error texts."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from software_gpu import LIBRARY, output_of, run_python

from gpuserver.native import find_native
from gpuserver.protocol.header import read_header
from gpuserver.softgpu.exports.generate import base_of, weak_definitions

NOT_FOUND, INVALID_VALUE, NOT_SUPPORTED = 500, 1, 801
NOT_INITIALIZED, INVALID_CONTEXT, INVALID_HANDLE = 3, 201, 400
LEGACY, PER_THREAD = 1, 2
# Asked for by runtimes, declared in no header that the wheels carry in a usable form: graphics interoperability, and
# functions newer than cuda.h 13.5. Runtimes take NOT_FOUND for them.
ABSENT = re.compile(r"cu(GL|EGL|VDPAU|GraphicsGL|GraphicsEGL|GraphicsVDPAU|GraphicsResourceGetMappedEgl|Subgrid)")


@pytest.fixture(scope="module")
def cuda() -> ctypes.CDLL:
    return ctypes.CDLL(str(find_native(LIBRARY)))


def ask(cuda: ctypes.CDLL, name: str, version: int, flags: int = 0) -> tuple[int, int, int]:
    """Result, entry point, status of cuGetProcAddress_v2."""
    pointer, status = ctypes.c_void_p(1), ctypes.c_int(-1)
    result = cuda.cuGetProcAddress_v2(
        name.encode(), ctypes.byref(pointer), version, ctypes.c_uint64(flags), ctypes.byref(status)
    )
    return result, pointer.value or 0, status.value


def address(cuda: ctypes.CDLL, symbol: str) -> int:
    return ctypes.cast(getattr(cuda, symbol), ctypes.c_void_p).value or 0


def lookups() -> Iterator[tuple[str, int, bool]]:
    """What the CUDA runtimes 12.8 and 13.5 ask for: `name@version`, `!p` for the per-thread default stream."""
    text = (Path(__file__).parent / "cudart_lookups.txt").read_text()
    for name, version, per_thread in re.findall(r"(cu\w+)@(\d+)(!p)?", text):
        yield name, int(version), bool(per_thread)


def test_exactly_the_symbols_of_the_header_are_exported() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(find_native(LIBRARY))], capture_output=True, text=True, check=True
    )
    exported = {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines()}
    assert exported == set(read_header().functions)
    assert len(exported) == 688


def test_the_library_goes_by_the_name_that_programs_ask_for() -> None:
    dynamic = subprocess.run(
        ["readelf", "-d", str(find_native(LIBRARY))], capture_output=True, text=True, check=True
    ).stdout
    assert "soname: [libcuda.so.1]" in dynamic
    needed = re.findall(r"NEEDED.*\[(.+?)\]", dynamic)
    assert not [name for name in needed if name.startswith(("libcuda", "libnv", "libstdc++", "liblz4", "libzstd"))]


def test_every_lookup_of_real_runtimes_resolves(cuda: ctypes.CDLL) -> None:
    asked = set(lookups())
    assert len(asked) > 450
    missing = {name for name, version, p in asked if ask(cuda, name, version, PER_THREAD if p else 0)[0]}
    assert {name for name in missing if not ABSENT.match(name)} == set()


def test_version_decides_which_abi_is_given(cuda: ctypes.CDLL) -> None:
    assert ask(cuda, "cuMemAlloc", 2000)[1] == address(cuda, "cuMemAlloc")
    assert ask(cuda, "cuMemAlloc", 3020)[1] == address(cuda, "cuMemAlloc_v2")
    assert ask(cuda, "cuMemAlloc", 13050)[1] == address(cuda, "cuMemAlloc_v2")
    assert ask(cuda, "cuCtxGetDevice", 12080)[1] == address(cuda, "cuCtxGetDevice")
    assert ask(cuda, "cuCtxGetDevice", 13000)[1] == address(cuda, "cuCtxGetDevice_v2")
    assert ask(cuda, "cuCtxCreate", 11040)[1] == address(cuda, "cuCtxCreate_v3")
    assert ask(cuda, "cuGraphInstantiate", 11000)[1] == address(cuda, "cuGraphInstantiate_v2")
    # cuda.h maps the name to another symbol from 12.0 on.
    assert ask(cuda, "cuGraphInstantiate", 12000)[1] == address(cuda, "cuGraphInstantiateWithFlags")
    assert ask(cuda, "cuGetProcAddress", 12000)[1] == address(cuda, "cuGetProcAddress_v2")


def test_flags_decide_which_default_stream_is_meant(cuda: ctypes.CDLL) -> None:
    assert ask(cuda, "cuLaunchKernel", 7000, PER_THREAD)[1] == address(cuda, "cuLaunchKernel_ptsz")
    assert ask(cuda, "cuLaunchKernel", 7000, LEGACY)[1] == address(cuda, "cuLaunchKernel")
    assert ask(cuda, "cuMemcpyHtoD", 7000, PER_THREAD)[1] == address(cuda, "cuMemcpyHtoD_v2_ptds")
    assert ask(cuda, "cuMemAlloc", 7000, PER_THREAD)[1] == address(cuda, "cuMemAlloc_v2")
    assert ask(cuda, "cuMemAlloc", 7000, LEGACY | PER_THREAD)[0] == INVALID_VALUE
    assert ask(cuda, "cuMemAlloc", 7000, 8)[0] == INVALID_VALUE


def test_what_is_not_there_is_told_apart_from_what_is_too_new(cuda: ctypes.CDLL) -> None:
    assert ask(cuda, "cuNoSuchThing", 13000) == (NOT_FOUND, 0, 1)
    assert ask(cuda, "", 0) == (NOT_FOUND, 0, 1)
    assert ask(cuda, "cuLaunchKernelEx", 11000) == (NOT_FOUND, 0, 2)
    assert ask(cuda, "cuMemAlloc_v2", 13000) == (NOT_FOUND, 0, 1)
    pointer = ctypes.c_void_p()
    assert cuda.cuGetProcAddress(b"cuMemAlloc", ctypes.byref(pointer), 3020, ctypes.c_uint64(0)) == 0
    assert pointer.value == address(cuda, "cuMemAlloc_v2")
    assert cuda.cuGetProcAddress_v2(None, ctypes.byref(pointer), 3020, ctypes.c_uint64(0), None) == INVALID_VALUE
    # The status is optional.
    assert cuda.cuGetProcAddress_v2(b"cuInit", ctypes.byref(pointer), 2000, ctypes.c_uint64(0), None) == 0


def test_an_older_driver_does_not_know_newer_functions() -> None:
    code = f"""
import ctypes
cuda = ctypes.CDLL({str(find_native(LIBRARY))!r})
def ask(name, version):
    pointer, status = ctypes.c_void_p(), ctypes.c_int()
    cuda.cuGetProcAddress_v2(name, ctypes.byref(pointer), version, ctypes.c_uint64(0), ctypes.byref(status))
    return pointer.value == ctypes.cast(cuda.cuCtxGetDevice, ctypes.c_void_p).value, status.value
version = ctypes.c_int()
cuda.cuDriverGetVersion(ctypes.byref(version))
print(version.value, *ask(b"cuCtxGetDevice", 13000), ask(b"cuGraphAddNode", 13000)[1])
print(ask(b"cuDeviceGetHostAtomicCapabilities", 13000)[1])
"""
    assert output_of(code, version="12080").split() == ["12080", "True", "0", "0", "1"]


def test_a_function_without_support_says_so_once() -> None:
    code = f"""
import ctypes
cuda = ctypes.CDLL({str(find_native(LIBRARY))!r})
print(cuda.cuMulticastUnbind(), cuda.cuInit(0), cuda.cuMulticastUnbind(), cuda.cuMulticastUnbind())
print(cuda.cuGraphicsUnregisterResource(None), cuda.cuMemAlloc_v2(None, 1), cuda.cuMemAlloc(None, 1))
"""
    done = run_python(code)
    answers = [NOT_INITIALIZED, 0, NOT_SUPPORTED, NOT_SUPPORTED, INVALID_HANDLE, INVALID_CONTEXT, INVALID_CONTEXT]
    assert done.stdout.split() == [str(answer) for answer in answers]
    assert done.stderr.count("cuMulticastUnbind is not supported") == 1
    assert done.stderr.count("cuGraphicsUnregisterResource is not supported") == 1


def test_per_thread_variants_call_the_function_they_vary() -> None:
    header = read_header()
    generated = weak_definitions(header)
    variants = [symbol for symbol in header.functions if base_of(symbol, header)]
    assert len(variants) == 105
    for symbol in variants:
        body = generated.split(f" {symbol}(", 1)[1].split("\n}\n", 1)[0]
        assert "PerThreadStreamScope scope;" in body
        assert f"return {base_of(symbol, header)}(" in body


def test_errors_have_their_names_and_texts(cuda: ctypes.CDLL) -> None:
    def describe(code: int) -> tuple[bytes | None, bytes | None]:
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        results = cuda.cuGetErrorName(code, ctypes.byref(name)), cuda.cuGetErrorString(code, ctypes.byref(text))
        assert results in ((0, 0), (INVALID_VALUE, INVALID_VALUE))
        return name.value, text.value

    assert describe(0) == (b"CUDA_SUCCESS", b"no error")
    assert describe(2) == (b"CUDA_ERROR_OUT_OF_MEMORY", b"out of memory")
    assert describe(700) == (b"CUDA_ERROR_ILLEGAL_ADDRESS", b"an illegal memory access was encountered")
    assert describe(999) == (b"CUDA_ERROR_UNKNOWN", b"unknown error")
    assert describe(123456) == (None, None)
    assert cuda.cuGetErrorName(0, None) == INVALID_VALUE


def test_the_trace_shows_calls_with_their_results() -> None:
    code = f"""
import ctypes
cuda = ctypes.CDLL({str(find_native(LIBRARY))!r})
pointer = ctypes.c_void_p()
cuda.cuGetProcAddress(b"cuDriverGetVersion", ctypes.byref(pointer), 2020, ctypes.c_uint64(0))
version = ctypes.c_int()
ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(pointer.value)(ctypes.addressof(version))
print(version.value)
"""
    done = run_python(code, trace="1")
    assert done.stdout == "13050\n"
    assert re.search(r"gpuferry softgpu: cuDriverGetVersion\(driverVersion=0x[0-9a-f]+\) = 0\n", done.stderr)
