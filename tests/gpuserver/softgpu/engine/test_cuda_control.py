"""Control flow of CUDA programs on the engine: divergence, calls, barriers, printf, faults."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.gpuserver.softgpu.engine.cuda_source import compile_to_ptx
from tests.gpuserver.softgpu.ptx_instructions.ptx_engine import EngineError, Program, library

I32 = np.int32


@pytest.fixture(scope="module")
def text() -> str:
    return compile_to_ptx("control")


@pytest.fixture
def program(text: str) -> Iterator[Program]:
    with Program(text) as loaded:
        yield loaded


@pytest.mark.parametrize("kernel", ["spin_lock_exit", "spin_lock_inside"])
def test_lock_taken_by_every_thread(program: Program, kernel: str) -> None:
    lock, counter = np.zeros(1, I32), np.zeros(1, I32)
    program.launch(kernel, lock, counter, grid=(6,), block=(96,))
    assert counter[0] == 6 * 96
    assert lock[0] == 0


def test_lanes_of_a_warp_wait_for_each_other(program: Program) -> None:
    flags, out = np.zeros(32, I32), np.full(32, -1, I32)
    program.launch("lanes_wait_for_lanes", flags, out)
    assert np.array_equal(out, np.arange(32))


def test_warps_of_a_block_wait_for_each_other(program: Program) -> None:
    out = np.full(8, -1, I32)
    program.launch("warps_wait_for_warps", out, block=(256,))
    assert np.array_equal(out, np.arange(8)[::-1])


def test_blocks_wait_for_the_blocks_before_them(program: Program) -> None:
    ready, out = np.zeros(300, I32), np.zeros(300, I32)
    program.launch("blocks_wait_for_blocks", ready, out, grid=(300,), block=(64,))
    assert np.array_equal(out, np.arange(1, 301))


def test_grids_at_once_all_make_progress(program: Program) -> None:
    flag = np.zeros(1, I32)
    outs = [np.zeros(40, I32) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(program.launch, "wait_for_flag", flag, out, grid=(40,), block=(64,)) for out in outs]
        program.launch("set_flag", flag, I32(17), block=(1,))
        for launch in waiting:
            launch.result()
    assert all(set(out.tolist()) == {17} for out in outs)


def test_nested_loops(program: Program) -> None:
    n = 1000
    rng = np.random.default_rng(1)
    data = rng.integers(0, 1000, n).astype(I32)
    out = np.zeros(n, I32)
    program.launch("nested_loops", data, out, I32(n), grid=(8,), block=(128,))
    for i in range(n):
        total = 0
        for a in range(data[i] % 13):
            if a == 7:
                continue
            for b in range(a, 10):
                if (a * b + i) % 11 == 3:
                    break
                total += b
                c = b
                while c & 1:
                    total ^= c
                    c >>= 1
        assert out[i] == total, i


def test_switch(program: Program) -> None:
    data = np.arange(-3, 13, dtype=I32)
    out = np.zeros(16, I32)
    program.launch("switches", data, out, I32(16))
    known = {0: 5, 1: 20, 2: 3, 3: 9, 4: -1, 5: 99, 6: 48}
    assert out.tolist() == [known.get(int(v), 1000 + int(v)) for v in data]


def test_recursion(program: Program) -> None:
    out = np.zeros(32, I32)
    program.launch("recursion", out)
    fibonacci = [0, 1]
    while len(fibonacci) < 16:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert out.tolist() == fibonacci * 2


def test_endless_recursion_is_a_stack_overflow(program: Program) -> None:
    with pytest.raises(EngineError) as failure:
        program.launch("stack_overflow", np.zeros(4, I32))
    assert failure.value.fault == "stack_overflow"


def test_structs_by_value(program: Program) -> None:
    record = np.dtype(
        {
            "names": ["a", "b", "c", "d"],
            "formats": ["<f8", ("<i4", 5), ("i1", 7), ("<f4", 4)],
            "offsets": [0, 8, 28, 48],
            "itemsize": 64,
        }
    )
    rng = np.random.default_rng(2)
    data = np.zeros(32, record)
    data["a"], data["b"], data["c"] = rng.random(32), rng.integers(0, 9, (32, 5)), rng.integers(0, 9, (32, 7))
    data["d"] = rng.random((32, 4)).astype(np.float32)
    given = np.zeros(1, record)
    given["b"] = 7
    expected = data.copy()
    for i in range(32):
        row = expected[i]
        row["b"][1] += 7
        for k in range(i % 9, -1, -1):
            row["a"] += k
            row["b"][k % 5] *= 2
            row["c"][k % 7] += 1
            row["d"][1] -= np.float32(k)
    program.launch("structs", given[0], data)
    for field in "abcd":
        assert np.array_equal(data[field], expected[field])


def test_function_pointers(program: Program) -> None:
    pointers = np.zeros(3, np.uint64)
    program.launch("take_pointer", pointers)
    assert len(set(pointers.tolist())) == 3
    data = np.arange(32, dtype=np.float32)

    def call(which: int, x: np.float32, k: int) -> np.float32:
        if which == 0:
            return np.float32(x + np.float32(k))
        if which == 1:
            return np.float32(x * np.float32(k))
        for _ in range(k):
            x = np.float32(x * np.float32(0.5) + np.float32(1))
        return x

    expected = [call((i + 1) % 3, call(i % 3, data[i], i), 2) for i in range(32)]
    program.launch("call_pointers", data, pointers)
    assert data.tolist() == expected


def test_call_of_no_function(program: Program) -> None:
    with pytest.raises(EngineError) as failure:
        program.launch("call_nothing", np.uint64(0x1234))
    assert failure.value.fault == "invalid_pc"


def test_virtual_functions_new_and_delete(program: Program) -> None:
    out = np.zeros(32, np.float32)
    program.launch("virtual_calls", out)
    assert out.tolist() == [i * i if i % 2 else i * 3 for i in range(32)]


def test_barriers_that_vote(program: Program) -> None:
    data = np.arange(96, dtype=I32) % 5
    out = np.zeros(192, I32)
    program.launch("vote_barriers", data, out, block=(96,))
    assert set(out[:96].tolist()) == {int((data > 2).sum())}
    assert set(out[96:].tolist()) == {2}


def test_named_barriers(program: Program) -> None:
    out = np.zeros(128, I32)
    program.launch("named_barriers", out, block=(96,))
    assert out.tolist() == [r * 100 + 31 - lane for r in range(4) for lane in range(32)]


def test_barrier_counts_threads_that_have_not_ended(program: Program) -> None:
    out = np.zeros(70, I32)
    program.launch("barrier_after_exit", out, block=(200,))
    assert set(out.tolist()) == {70}


def test_barrier_in_both_branches(program: Program) -> None:
    out = np.zeros(64, I32)
    program.launch("barrier_in_branches", out, block=(64,))
    assert out.tolist() == [63 - i if i % 2 else -(63 - i) for i in range(64)]


def test_warp_barrier_at_two_places(program: Program) -> None:
    out = np.zeros(32, I32)
    program.launch("warp_sync_places", out)
    assert out.tolist() == [(i + 16) * 2 if i < 16 else i - 16 for i in range(32)]


def test_printf(program: Program) -> None:
    program.launch("print_things", I32(3), grid=(2,))
    line = "-7  3.14 text z ff 1234567890123 42 9     | 5.000000e-01 %\n"
    assert program.output == line * 2


def test_printf_of_every_thread(program: Program) -> None:
    program.launch("print_each", block=(40,))
    assert program.output == "".join(f"t{i}\n" for i in range(40))


def test_assert(program: Program) -> None:
    program.launch("check", I32(1))
    with pytest.raises(EngineError) as failure:
        program.launch("check", I32(5), block=(2,))
    assert failure.value.fault == "assertion"
    assert re.search(
        r"control\.cu:\d+: void check\(int\): block: \[0,0,0\], thread: \[1,0,0\] "
        r"Assertion `n < 3 && \"n is small\"` failed\.",
        str(failure.value),
    )


def test_trap(program: Program) -> None:
    with pytest.raises(EngineError) as failure:
        program.launch("trap_here")
    assert failure.value.fault == "trap"
    assert "trap_here" in str(failure.value)


@pytest.mark.parametrize("index", [4, -1, 1 << 40, -(1 << 60)])
def test_access_outside_of_every_allocation(program: Program, index: int) -> None:
    data = np.zeros(4, I32)
    out = np.zeros(1, I32)
    program.launch("read_at", data, np.int64(3), out)
    with pytest.raises(EngineError) as failure:
        program.launch("read_at", data, np.int64(index), out)
    assert failure.value.fault == "illegal_address"
    assert "ld.global" in str(failure.value) or "bytes at 0x" in str(failure.value)


def test_misaligned_access(program: Program) -> None:
    data = np.zeros(16, np.uint8)
    with pytest.raises(EngineError) as failure:
        program.launch("write_at", data, np.int64(2))
    assert failure.value.fault == "misaligned_address"
    assert not data.any()


def test_shared_memory_has_an_end(program: Program) -> None:
    out = np.zeros(32, I32)
    program.launch("read_shared_at", I32(5), out, shared_bytes=128)
    assert set(out.tolist()) == {5}
    for index in (32, -2000, 1 << 20):
        with pytest.raises(EngineError) as failure:
            program.launch("read_shared_at", I32(index), out, shared_bytes=128)
        assert failure.value.fault == "illegal_address"


def test_malloc_outlives_the_kernel(program: Program) -> None:
    pointers, sums = np.zeros(32, np.uint64), np.zeros(32, I32)
    program.launch("allocate", pointers, I32(10))
    assert len(set(pointers.tolist())) == 32
    program.launch("release", pointers, sums, I32(10))
    assert sums.tolist() == [45 * i for i in range(32)]
    with pytest.raises(EngineError) as failure:
        program.launch("release", pointers, sums, I32(10))
    assert failure.value.fault == "illegal_address"


def test_local_arrays(program: Program) -> None:
    data = np.random.default_rng(3).integers(0, 1000, 64).astype(I32)
    out = np.zeros(64, I32)
    program.launch("local_arrays", data, out, block=(64,))
    for thread in range(64):
        a = [int(data[(thread + i) % 64]) for i in range(40)]
        for i in range(40):
            j = a[i] % 40
            a[i], a[j] = a[j], a[i]
        total = 0
        for v in a:
            total = (total * 31 + v) & 0xFFFFFFFF
        assert int(out[thread]) & 0xFFFFFFFF == total


def test_timers(program: Program) -> None:
    out = np.zeros(3, np.uint64)
    program.launch("timers", out, block=(1,))
    assert out[1] > out[0]
    assert out[2] > 1_600_000_000 * 10**9  # nanoseconds since 1970


def test_generic_pointers(program: Program) -> None:
    out = np.zeros(4, I32)
    out[0] = 1
    program.launch("generic_pointers", out, block=(1,))
    assert out.tolist()[1:] == [1 + 10, 2 + 20, 3 + 40]


def test_constant_and_device_variables(program: Program) -> None:
    out = np.zeros(32, I32)
    program.launch("variables", out)
    assert out.tolist() == [(2, 3, 5, 7)[i % 4] * 100 + 5 for i in range(32)]
    variable = library().softgpu_test_variable
    variable.restype = ctypes.c_void_p
    address = variable(ctypes.c_void_p(program._handle), b"counter_variable", None)
    assert ctypes.c_int32.from_address(address).value == 41 + 32
