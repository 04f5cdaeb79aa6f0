"""Code images: what is loaded, what is refused, and with which error."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from images import SOURCE, nvcc
from software_gpu import Driver

INVALID_VALUE, INVALID_IMAGE, NO_BINARY, INVALID_PTX, NOT_FOUND, FILE_NOT_FOUND = 1, 200, 209, 218, 500, 301
UNSUPPORTED_VERSION = 222
WRAPPER_MAGIC = 0x466243B1
PTX_75 = ("-gencode", "arch=compute_75,code=compute_75")
PTX_90 = ("-gencode", "arch=compute_90,code=compute_90")
CUBIN_80 = ("-gencode", "arch=compute_80,code=sm_80")


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("images")
    flags: dict[str, tuple[str, ...]] = {
        mode: ("-fatbin", f"--compress-mode={mode}", *PTX_75, *CUBIN_80) for mode in ("none", "speed", "size")
    }
    flags |= {
        "two": ("-fatbin", *PTX_75, *PTX_90),
        "machine-code": ("-fatbin", *CUBIN_80),
        "cubin": ("-cubin", "-arch=sm_80"),
        "ptx": ("-ptx", "-arch=compute_75"),
    }
    return {name: nvcc(SOURCE, folder / name, *how).read_bytes() for name, how in flags.items()}


def run_add(driver: Driver, module: ctypes.c_void_p) -> list[int]:
    """add<<<1, 4>>>(memory, 3, 2) on zeros."""
    function, memory = ctypes.c_void_p(), ctypes.c_uint64()
    driver.check("cuModuleGetFunction", ctypes.byref(function), module, b"add")
    driver.check("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(16))
    driver.check("cuMemsetD8_v2", memory, ctypes.c_ubyte(0), ctypes.c_size_t(16))
    values = (memory, ctypes.c_int(3), ctypes.c_char(2))
    parameters = (ctypes.c_void_p * 3)(*(ctypes.addressof(value) for value in values))
    driver.check("cuLaunchKernel", function, 1, 1, 1, 4, 1, 1, 0, None, parameters, None)
    result = (ctypes.c_int * 4)()
    driver.check("cuMemcpyDtoH_v2", result, memory, ctypes.c_size_t(16))
    driver.check("cuMemFree_v2", memory)
    return list(result)


@pytest.mark.parametrize("name", ["none", "speed", "size", "two", "ptx"])
def test_each_kind_of_image_runs(driver: Driver, compiled: dict[str, bytes], name: str) -> None:
    """Uncompressed, LZ4 and zstd entries; several architectures; text."""
    flags = {"none": 0, "speed": 0x2000, "size": 0x8000}
    if name in flags:
        kinds = [kind for kind, entry_flags in entries(compiled[name]) if entry_flags & 0xA000 == flags[name]]
        assert 1 in kinds
    result, module = driver.load(compiled[name])
    assert result == 0
    assert run_add(driver, module) == [6, 10, 6, 0]
    driver.check("cuModuleUnload", module)


def entries(fatbin: bytes) -> list[tuple[int, int]]:
    """Kind and flags of each entry."""
    found, offset = [], 16
    while offset < len(fatbin):
        kind, _, header, payload = struct.unpack_from("<HHIQ", fatbin, offset)
        found.append((kind, struct.unpack_from("<Q", fatbin, offset + 40)[0]))
        offset += header + payload
    return found


def wrap(fatbin: bytes, version: int = 1, linked: list[bytes] | None = None) -> tuple[bytes, list[object]]:
    """A wrapper as nvcc's start-up code registers it, and what must stay alive with it."""
    data = ctypes.create_string_buffer(fatbin, len(fatbin))
    parts = [ctypes.create_string_buffer(part, len(part)) for part in linked or []]
    array = (ctypes.c_void_p * (len(parts) + 1))(*(ctypes.addressof(part) for part in parts), None)
    wrapper = struct.pack(
        "<IIQQ", WRAPPER_MAGIC, version, ctypes.addressof(data), ctypes.addressof(array) if linked else 0
    )
    return wrapper, [data, parts, array]


def test_a_wrapper_points_at_its_fatbin(driver: Driver, compiled: dict[str, bytes]) -> None:
    wrapper, alive = wrap(compiled["speed"])
    module = ctypes.c_void_p()
    driver.check("cuModuleLoadFatBinary", ctypes.byref(module), wrapper)
    assert run_add(driver, module) == [6, 10, 6, 0]
    assert alive


def test_a_wrapper_of_version_2_brings_the_fatbins_that_were_linked(driver: Driver, compiled: dict[str, bytes]) -> None:
    wrapper, alive = wrap(compiled["machine-code"], 2, [compiled["size"]])
    module = ctypes.c_void_p()
    driver.check("cuModuleLoadData", ctypes.byref(module), wrapper)
    assert run_add(driver, module) == [6, 10, 6, 0]
    assert alive


@pytest.mark.parametrize(
    ("image", "result"),
    [
        (b"", INVALID_IMAGE),
        (b"this is no PTX", INVALID_IMAGE),
        (b"// only a comment\n", INVALID_IMAGE),
        (b"!<arch>\n" + bytes(60), INVALID_IMAGE),
        (b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { this is nonsense; }", INVALID_PTX),
        (b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret", INVALID_PTX),
        (b".version 8.0\n.target sm_130\n.address_size 64\n", NO_BINARY),
        (b".version 99.0\n.target sm_80\n.address_size 64\n", UNSUPPORTED_VERSION),
        (struct.pack("<IIQQ", WRAPPER_MAGIC, 1, 0, 0), INVALID_IMAGE),
        (struct.pack("<IIQQ", WRAPPER_MAGIC, 1, 64, 0), INVALID_IMAGE),
        (struct.pack("<IIQQ", WRAPPER_MAGIC, 1, 0xFFFFFFFFFFFFFFF0, 0), INVALID_IMAGE),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 0), NO_BINARY),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 2**64 - 1), INVALID_IMAGE),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 3, 100), INVALID_IMAGE),
    ],
)
def test_what_is_no_image_is_refused(driver: Driver, image: bytes, result: int) -> None:
    assert driver.load(image)[0] == result


def test_machine_code_is_no_binary_for_this_device(driver: Driver, compiled: dict[str, bytes]) -> None:
    assert driver.load(compiled["cubin"])[0] == NO_BINARY
    assert driver.load(compiled["machine-code"])[0] == NO_BINARY


@pytest.mark.parametrize("name", ["none", "speed", "size"])
def test_a_damaged_fatbin_is_refused(driver: Driver, compiled: dict[str, bytes], name: str) -> None:
    """Each header word in turn made huge or zero: an error or a program, never a crash."""
    whole = compiled[name]
    results = set()
    for offset in range(0, 16 + 80, 4):
        for value in (0, 0xFFFFFFFF):
            damaged = whole[:offset] + struct.pack("<I", value) + whole[offset + 4 :]
            result, module = driver.load(damaged + bytes(4096))
            results.add(result)
            if result == 0:
                driver.check("cuModuleUnload", module)
    assert results <= {0, INVALID_IMAGE, NO_BINARY, INVALID_PTX}
    assert {0, INVALID_IMAGE} <= results


def test_files_are_loaded_and_missing_ones_named(driver: Driver, compiled: dict[str, bytes], tmp_path: Path) -> None:
    file, module = tmp_path / "image.ptx", ctypes.c_void_p()
    file.write_bytes(compiled["ptx"])
    driver.check("cuModuleLoad", ctypes.byref(module), str(file).encode())
    assert run_add(driver, module) == [6, 10, 6, 0]
    assert driver.call("cuModuleLoad", ctypes.byref(module), str(tmp_path / "none").encode()) == FILE_NOT_FOUND
    (tmp_path / "cut").write_bytes(compiled["none"][:-100])
    assert driver.call("cuModuleLoad", ctypes.byref(module), str(tmp_path / "cut").encode()) == INVALID_IMAGE


def test_the_error_log_says_where_the_ptx_is_wrong(driver: Driver) -> None:
    text = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n    frobnicate.u32 %r1;\n}\n"
    log = ctypes.create_string_buffer(512)
    options = (ctypes.c_int * 3)(5, 6, 2)  # CU_JIT_ERROR_LOG_BUFFER, its size, CU_JIT_WALL_TIME
    values = (ctypes.c_void_p * 3)(ctypes.addressof(log), len(log), None)
    module = ctypes.c_void_p()
    result = driver.call("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(text), 3, options, values)
    assert result == INVALID_PTX
    assert b"line 6" in log.value
    assert b"frobnicate" in log.value
    assert values[1] == len(log.value)
    milliseconds = struct.unpack("<f", struct.pack("<I", (values[2] or 0) & 0xFFFFFFFF))[0]
    assert 0 < milliseconds < 60_000
    # A log too small for the text is filled and ended.
    small = ctypes.create_string_buffer(b"x" * 16, 16)
    values = (ctypes.c_void_p * 3)(ctypes.addressof(small), 10, None)
    driver.call("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(text), 3, options, values)
    assert len(small.value) == 9
    assert small.raw[10:] == b"xxxxxx"


def test_null_arguments_are_refused(driver: Driver) -> None:
    module = ctypes.c_void_p()
    assert driver.call("cuModuleLoadData", None, b"x") == INVALID_VALUE
    assert driver.call("cuModuleLoadData", ctypes.byref(module), None) == INVALID_VALUE
    assert driver.call("cuModuleLoadDataEx", ctypes.byref(module), b"x", 1, None, None) == INVALID_VALUE
