"""Modules, libraries, kernels, their attributes, the linker and occupancy."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from images import CALLEE, CALLER, SOURCE, nvcc
from software_gpu import Driver

INVALID_VALUE, INVALID_PTX, INVALID_HANDLE, NOT_FOUND, NOT_PERMITTED = 1, 218, 400, 500, 800
MAX_THREADS, STATIC_SHARED, CONSTANTS, REGISTERS = 0, 1, 2, 4  # CUfunction_attribute
PTX_VERSION, BINARY_VERSION, MAX_DYNAMIC, CARVEOUT = 5, 6, 8, 9
PTX, FATBINARY, OBJECT, LIBRARY = 1, 2, 3, 4  # CUjitInputType
NO_BINARY = 209
COMPUTE_75 = ("-arch=compute_75",)


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver()


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return nvcc(SOURCE, tmp_path_factory.mktemp("modules") / "source.ptx", "-ptx", *COMPUTE_75).read_bytes()


@pytest.fixture
def module(driver: Driver, text: bytes) -> ctypes.c_void_p:
    result, handle = driver.load(text)
    assert result == 0
    return handle


@pytest.fixture
def library(driver: Driver, text: bytes) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    driver.check("cuLibraryLoadData", ctypes.byref(handle), ctypes.c_char_p(text), None, None, 0, None, None, 0)
    return handle


def function_of(driver: Driver, module: ctypes.c_void_p, name: bytes) -> ctypes.c_void_p:
    function = ctypes.c_void_p()
    driver.check("cuModuleGetFunction", ctypes.byref(function), module, name)
    return function


def kernel_of(driver: Driver, library: ctypes.c_void_p, name: bytes) -> ctypes.c_void_p:
    kernel = ctypes.c_void_p()
    driver.check("cuLibraryGetKernel", ctypes.byref(kernel), library, name)
    return kernel


def attribute(driver: Driver, function: ctypes.c_void_p, which: int) -> int:
    value = ctypes.c_int()
    driver.check("cuFuncGetAttribute", ctypes.byref(value), which, function)
    return value.value


def read_int(driver: Driver, address: int) -> int:
    value = ctypes.c_int()
    driver.check("cuMemcpyDtoH_v2", ctypes.byref(value), ctypes.c_uint64(address), ctypes.c_size_t(4))
    return value.value


def launch(driver: Driver, function: ctypes.c_void_p) -> int:
    """add<<<1, 1>>>(memory, 1, 1); what it wrote."""
    memory = ctypes.c_uint64()
    driver.check("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4))
    driver.check("cuMemsetD32_v2", memory, 0, ctypes.c_size_t(1))
    values = (memory, ctypes.c_int(1), ctypes.c_char(1))
    parameters = (ctypes.c_void_p * 3)(*(ctypes.addressof(value) for value in values))
    driver.check("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
    written = read_int(driver, memory.value)
    driver.check("cuMemFree_v2", memory)
    return written


# --- modules


def test_functions_are_found_by_name(driver: Driver, module: ctypes.c_void_p) -> None:
    function, name, owner = function_of(driver, module, b"add"), ctypes.c_char_p(), ctypes.c_void_p()
    assert function_of(driver, module, b"add").value == function.value
    driver.check("cuFuncGetName", ctypes.byref(name), function)
    driver.check("cuFuncGetModule", ctypes.byref(owner), function)
    assert (name.value, owner.value) == (b"add", module.value)
    assert driver.call("cuModuleGetFunction", ctypes.byref(owner), module, b"none") == NOT_FOUND
    assert driver.call("cuModuleGetFunction", ctypes.byref(owner), None, b"add") == INVALID_HANDLE
    assert driver.call("cuModuleGetFunction", ctypes.byref(owner), module, None) == INVALID_VALUE


def test_functions_are_enumerated(driver: Driver, module: ctypes.c_void_p) -> None:
    count, functions = ctypes.c_uint(), (ctypes.c_void_p * 2)()
    driver.check("cuModuleGetFunctionCount", ctypes.byref(count), module)
    assert count.value == 2
    driver.check("cuModuleEnumerateFunctions", functions, 2, module)
    assert set(functions) == {function_of(driver, module, name).value for name in (b"add", b"small")}


def test_parameters_have_their_layout(driver: Driver, module: ctypes.c_void_p) -> None:
    function, layout = function_of(driver, module, b"add"), []
    offset, size, count = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t()
    for index in range(3):
        driver.check("cuFuncGetParamInfo", function, ctypes.c_size_t(index), ctypes.byref(offset), ctypes.byref(size))
        layout.append((offset.value, size.value))
    assert layout == [(0, 8), (8, 4), (12, 1)]
    assert driver.call("cuFuncGetParamInfo", function, ctypes.c_size_t(3), ctypes.byref(offset), None) == INVALID_VALUE
    driver.check("cuFuncGetParamCount", function, ctypes.byref(count))
    assert count.value == 3


def test_globals_have_address_size_and_value(driver: Driver, module: ctypes.c_void_p) -> None:
    address, size = ctypes.c_uint64(), ctypes.c_size_t()
    driver.check("cuModuleGetGlobal_v2", ctypes.byref(address), ctypes.byref(size), module, b"step")
    assert (size.value, read_int(driver, address.value), read_int(driver, address.value + 4)) == (8, 3, 5)
    driver.check("cuModuleGetGlobal_v2", ctypes.byref(address), None, module, b"counter")
    assert read_int(driver, address.value) == 7
    assert launch(driver, function_of(driver, module, b"add")) == 3
    assert read_int(driver, address.value) == 8
    assert driver.call("cuModuleGetGlobal_v2", ctypes.byref(address), None, module, b"none") == NOT_FOUND


def test_what_an_unloaded_module_had_is_gone(driver: Driver, text: bytes) -> None:
    _, handle = driver.load(text)
    function, free, total = function_of(driver, handle, b"add"), ctypes.c_size_t(), ctypes.c_size_t()
    driver.check("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    loaded = free.value
    driver.check("cuModuleUnload", handle)
    driver.check("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    assert free.value > loaded
    value = ctypes.c_int()
    assert driver.call("cuFuncGetAttribute", ctypes.byref(value), MAX_THREADS, function) == INVALID_HANDLE
    assert driver.call("cuModuleUnload", handle) == INVALID_HANDLE
    assert driver.call("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, None, None) == INVALID_HANDLE


# --- attributes and occupancy


def test_attributes_say_what_was_compiled(driver: Driver, module: ctypes.c_void_p) -> None:
    small, add = function_of(driver, module, b"small"), function_of(driver, module, b"add")
    assert attribute(driver, small, MAX_THREADS) == 64
    assert attribute(driver, add, MAX_THREADS) == 1024
    assert attribute(driver, small, STATIC_SHARED) == 400
    assert attribute(driver, small, MAX_DYNAMIC) == 48 * 1024 - 400
    assert attribute(driver, add, CONSTANTS) == 8
    assert attribute(driver, add, PTX_VERSION) == 75
    assert attribute(driver, add, BINARY_VERSION) == 121
    assert 1 <= attribute(driver, add, REGISTERS) <= 64
    value = ctypes.c_int()
    assert driver.call("cuFuncGetAttribute", ctypes.byref(value), 999, add) == INVALID_VALUE


def test_attributes_that_may_be_set_are_checked(driver: Driver, module: ctypes.c_void_p) -> None:
    add = function_of(driver, module, b"add")
    driver.check("cuFuncSetAttribute", add, MAX_DYNAMIC, 64 * 1024)
    assert attribute(driver, add, MAX_DYNAMIC) == 64 * 1024
    driver.check("cuFuncSetAttribute", add, CARVEOUT, 50)
    assert attribute(driver, add, CARVEOUT) == 50
    for which, value in ((MAX_DYNAMIC, 10**9), (MAX_DYNAMIC, -1), (CARVEOUT, 101), (REGISTERS, 8)):
        assert driver.call("cuFuncSetAttribute", add, which, value) == INVALID_VALUE
    assert driver.call("cuFuncSetCacheConfig", add, 9) == INVALID_VALUE
    driver.check("cuFuncSetCacheConfig", add, 2)


def test_occupancy_follows_from_the_limits(driver: Driver, module: ctypes.c_void_p) -> None:
    add, small = function_of(driver, module, b"add"), function_of(driver, module, b"small")
    blocks, grid, block, room = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()

    def active(function: ctypes.c_void_p, size: int, shared: int) -> int:
        driver.check(
            "cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(blocks), function, size, ctypes.c_size_t(shared)
        )
        return blocks.value

    threads, shared, reserved = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    for value, which in ((threads, 39), (shared, 81), (reserved, 111)):
        driver.check("cuDeviceGetAttribute", ctypes.byref(value), which, 0)
    assert active(add, 1024, 0) == threads.value // 1024
    assert active(add, 256, 40 * 1024) == min(threads.value // 256, shared.value // (40 * 1024 + reserved.value))
    assert active(small, 128, 0) == 0  # more than its launch bounds
    assert active(add, 32, 10**6) == 0
    driver.check(
        "cuOccupancyMaxPotentialBlockSize", ctypes.byref(grid), ctypes.byref(block), add, None, ctypes.c_size_t(0), 0
    )
    count = ctypes.c_int()
    driver.check("cuDeviceGetAttribute", ctypes.byref(count), 16, 0)
    assert block.value * active(add, block.value, 0) == threads.value
    assert grid.value == active(add, block.value, 0) * count.value
    driver.check("cuOccupancyAvailableDynamicSMemPerBlock", ctypes.byref(room), add, 2, 256)
    assert active(add, 256, room.value) >= 2


# --- libraries


def test_a_kernel_is_launched_by_its_own_handle(driver: Driver, library: ctypes.c_void_p) -> None:
    kernel, function = kernel_of(driver, library, b"add"), ctypes.c_void_p()
    assert launch(driver, kernel) == 3
    driver.check("cuKernelGetFunction", ctypes.byref(function), kernel)
    assert function.value != kernel.value
    assert launch(driver, function) == 3
    assert attribute(driver, kernel, MAX_THREADS) == 1024
    back = ctypes.c_void_p()
    driver.check("cuKernelGetLibrary", ctypes.byref(back), kernel)
    assert back.value == library.value
    assert driver.call("cuKernelGetLibrary", ctypes.byref(back), function) == INVALID_HANDLE


def test_kernels_are_enumerated(driver: Driver, library: ctypes.c_void_p) -> None:
    count, kernels, name = ctypes.c_uint(), (ctypes.c_void_p * 2)(), ctypes.c_char_p()
    driver.check("cuLibraryGetKernelCount", ctypes.byref(count), library)
    driver.check("cuLibraryEnumerateKernels", kernels, 2, library)
    names = set()
    for kernel in kernels:
        driver.check("cuKernelGetName", ctypes.byref(name), ctypes.c_void_p(kernel))
        names.add(name.value)
    assert (count.value, names) == (2, {b"add", b"small"})
    assert driver.call("cuLibraryGetKernel", ctypes.byref(ctypes.c_void_p()), library, b"none") == NOT_FOUND


def test_attributes_set_before_loading_hold_afterwards(driver: Driver, library: ctypes.c_void_p) -> None:
    kernel, function, value = kernel_of(driver, library, b"add"), ctypes.c_void_p(), ctypes.c_int()
    driver.check("cuKernelSetAttribute", MAX_DYNAMIC, 50_000, kernel, 0)
    driver.check("cuKernelGetAttribute", ctypes.byref(value), MAX_DYNAMIC, kernel, 0)
    assert value.value == 50_000
    driver.check("cuKernelGetFunction", ctypes.byref(function), kernel)
    assert attribute(driver, function, MAX_DYNAMIC) == 50_000
    driver.check("cuKernelSetAttribute", MAX_DYNAMIC, 51_000, kernel, 0)
    assert attribute(driver, function, MAX_DYNAMIC) == 51_000
    assert driver.call("cuKernelSetAttribute", MAX_DYNAMIC, 51_000, kernel, 64) == 101


def test_a_library_is_loaded_once_in_each_context(driver: Driver, library: ctypes.c_void_p) -> None:
    first, again, other, context = (ctypes.c_void_p() for _ in range(4))
    address, managed, elsewhere = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
    driver.check("cuLibraryGetModule", ctypes.byref(first), library)
    driver.check("cuLibraryGetModule", ctypes.byref(again), library)
    assert first.value == again.value
    assert driver.call("cuModuleUnload", first) == NOT_PERMITTED
    driver.check("cuLibraryGetGlobal", ctypes.byref(address), None, library, b"counter")
    driver.check("cuLibraryGetManaged", ctypes.byref(managed), None, library, b"shared_counter")
    shared = ctypes.cast(managed.value or 0, ctypes.POINTER(ctypes.c_int))
    assert shared[0] == 11
    shared[0] = 12
    assert launch(driver, kernel_of(driver, library, b"add")) == 3
    driver.check("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
    try:
        driver.check("cuLibraryGetModule", ctypes.byref(other), library)
        assert other.value != first.value
        driver.check("cuLibraryGetGlobal", ctypes.byref(elsewhere), None, library, b"counter")
        assert elsewhere.value != address.value
        assert (read_int(driver, elsewhere.value), shared[0]) == (7, 12)
        driver.check("cuLibraryGetManaged", ctypes.byref(elsewhere), None, library, b"shared_counter")
        assert elsewhere.value == managed.value
    finally:
        driver.check("cuCtxDestroy_v2", context)
        driver.check("cuCtxSetCurrent", driver.context)
    assert read_int(driver, address.value) == 8


def test_what_an_unloaded_library_had_is_gone(driver: Driver, library: ctypes.c_void_p) -> None:
    kernel, function = kernel_of(driver, library, b"add"), ctypes.c_void_p()
    driver.check("cuKernelGetFunction", ctypes.byref(function), kernel)
    driver.check("cuLibraryUnload", library)
    assert driver.call("cuLibraryUnload", library) == INVALID_HANDLE
    for handle in (kernel, function):
        assert driver.call("cuLaunchKernel", handle, 1, 1, 1, 1, 1, 1, 0, None, None, None) == INVALID_HANDLE


# --- the linker


class Linker:
    """cuLinkCreate with an error log."""

    def __init__(self, driver: Driver, max_registers: int = 0) -> None:
        self.driver, self.state = driver, ctypes.c_void_p()
        self.log = ctypes.create_string_buffer(4096)
        self.options = (ctypes.c_int * 3)(5, 6, 0)  # error log, its size, CU_JIT_MAX_REGISTERS
        self.values = (ctypes.c_void_p * 3)(ctypes.addressof(self.log), len(self.log), max_registers)
        driver.check("cuLinkCreate_v2", 3 if max_registers else 2, self.options, self.values, ctypes.byref(self.state))

    def add(self, kind: int, data: bytes, name: bytes = b"input") -> int:
        size = ctypes.c_size_t(len(data))
        return self.driver.call("cuLinkAddData_v2", self.state, kind, ctypes.c_char_p(data), size, name, 0, None, None)

    def complete(self) -> tuple[int, bytes]:
        image, size = ctypes.c_void_p(), ctypes.c_size_t()
        result = self.driver.call("cuLinkComplete", self.state, ctypes.byref(image), ctypes.byref(size))
        return result, ctypes.string_at(image.value, size.value) if image.value else b""


@pytest.fixture(scope="session")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("link")
    how = {"ptx": ("-ptx", "-rdc=true", *COMPUTE_75), "o": ("-c", "-rdc=true", *COMPUTE_75)}
    sources = {"caller": CALLER, "callee": CALLEE}
    return {
        f"{name}.{kind}": nvcc(source, folder / f"{name}.{kind}", *flags)
        for name, source in sources.items()
        for kind, flags in how.items()
    }


def call_result(driver: Driver, image: bytes) -> int:
    """What `call` of the linked image writes."""
    result, module = driver.load(image)
    assert result == 0
    memory = ctypes.c_uint64()
    driver.check("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4))
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
    function = function_of(driver, module, b"call")
    driver.check("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
    return read_int(driver, memory.value)


def test_units_of_ptx_are_linked(driver: Driver, units: dict[str, Path]) -> None:
    linker = Linker(driver)
    assert linker.add(PTX, units["caller.ptx"].read_bytes()) == 0
    assert linker.add(PTX, units["callee.ptx"].read_bytes()) == 0
    result, image = linker.complete()
    assert result == 0
    driver.check("cuLinkDestroy", linker.state)
    assert call_result(driver, image) == 42
    # The result may be linked again, and is a library too.
    again, library = Linker(driver), ctypes.c_void_p()
    assert again.add(FATBINARY, image) == 0
    assert call_result(driver, again.complete()[1]) == 42
    driver.check("cuLibraryLoadData", ctypes.byref(library), ctypes.c_char_p(image), None, None, 0, None, None, 0)


def test_object_files_and_archives_are_linked(driver: Driver, units: dict[str, Path], tmp_path: Path) -> None:
    linker = Linker(driver)
    assert linker.add(OBJECT, units["caller.o"].read_bytes()) == 0
    callee = units["callee.o"].read_bytes()
    header = b"callee.o/       0           0     0     644     %-10d`\n" % len(callee)
    archive = tmp_path / "callee.a"
    archive.write_bytes(b"!<arch>\n" + header + callee + b"\n" * (len(callee) % 2))
    path = str(archive).encode()
    assert driver.call("cuLinkAddFile_v2", linker.state, LIBRARY, path, 0, None, None) == 0
    result, image = linker.complete()
    assert result == 0
    assert call_result(driver, image) == 42


def test_a_missing_function_is_named(driver: Driver, units: dict[str, Path]) -> None:
    linker = Linker(driver)
    assert linker.add(PTX, units["caller.ptx"].read_bytes()) == 0
    result, image = linker.complete()
    assert (result, image) == (INVALID_PTX, b"")
    assert b"twice" in linker.log.value
    assert driver.load(units["caller.ptx"].read_bytes())[0] == INVALID_PTX


def test_wrong_input_is_refused_when_it_is_added(driver: Driver, units: dict[str, Path]) -> None:
    linker = Linker(driver)
    wrong = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { wrong; }"
    assert linker.add(PTX, wrong, b"unit seven") == INVALID_PTX
    assert b"unit seven" in linker.log.value
    assert linker.add(99, b"x") == INVALID_VALUE
    assert linker.add(PTX, b"") == INVALID_VALUE
    assert linker.add(FATBINARY, b"\x7fELF" + bytes(100)) == NO_BINARY
    assert linker.add(OBJECT, b"no object") == 200
    driver.check("cuLinkDestroy", linker.state)
    assert driver.call("cuLinkDestroy", linker.state) == INVALID_HANDLE
    assert linker.add(PTX, units["callee.ptx"].read_bytes()) == INVALID_HANDLE


MANY_REGISTERS = """
extern "C" __global__ void %s many(double *out, const double *in) {
    double values[48];
    for (int i = 0; i < 48; ++i) values[i] = in[i * 32 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 48; ++i) out[i * 32 + threadIdx.x] = values[i] * values[(i * 7) %% 48] + values[47 - i];
}
"""


def registers_of(driver: Driver, image: bytes, *options: int) -> int:
    """CU_FUNC_ATTRIBUTE_NUM_REGS of `many`, loaded with CU_JIT_MAX_REGISTERS when it is given."""
    module, count = ctypes.c_void_p(), ctypes.c_int()
    keys, values = (ctypes.c_int * 1)(0), (ctypes.c_void_p * 1)(*options)
    data = ctypes.c_char_p(image)
    driver.check("cuModuleLoadDataEx", ctypes.byref(module), data, len(options), keys, values)
    driver.check("cuFuncGetAttribute", ctypes.byref(count), 4, function_of(driver, module, b"many"))
    return count.value


def test_a_limit_of_registers_holds(driver: Driver, tmp_path: Path) -> None:
    plain = nvcc(MANY_REGISTERS % "", tmp_path / "plain.ptx", "-ptx", *COMPUTE_75).read_bytes()
    bound = nvcc(MANY_REGISTERS % "__maxnreg__(40)", tmp_path / "bound.ptx", "-ptx", *COMPUTE_75).read_bytes()
    assert b".maxnreg 40" in bound
    assert registers_of(driver, plain) > 57
    assert registers_of(driver, plain, 57) == 57
    assert registers_of(driver, plain, 3) == 16  # a kernel gets that many in any case
    assert registers_of(driver, bound) == 40
    assert registers_of(driver, bound, 32) == 32
    linker = Linker(driver, max_registers=38)
    assert linker.add(PTX, plain) == 0
    linked = linker.complete()[1]
    assert registers_of(driver, linked) == 38
    assert registers_of(driver, linked, 24) == 38  # it was compiled when it was linked
