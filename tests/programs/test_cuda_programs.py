"""nvcc-built programs with a static runtime: what they print and save, against NumPy and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Run = Callable[..., Any]


def integers(seed: int, low: int, high: int, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(low, high, count).astype(dtype)


def test_vector_add(run_cuda: Run) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(100_003).astype(np.float32) for _ in range(2))
    result = run_cuda("vector_add", {"a": a, "b": b})
    assert result.lines == ["added 100003"]
    assert np.array_equal(result.array("c", np.float32), a + b)


@pytest.mark.parametrize("shape", [(64, 64, 64), (70, 33, 95)])
def test_tiled_matrix_product(run_cuda: Run, shape: tuple[int, int, int]) -> None:
    """Small integers as floats: every order of summation gives the same, exact product."""
    rows, inner, columns = shape
    a = integers(2, -8, 9, rows * inner, np.float32).reshape(rows, inner)
    b = integers(3, -8, 9, inner * columns, np.float32).reshape(inner, columns)
    result = run_cuda("matmul_tiled", {"shape": np.array(shape, np.int32), "a": a, "b": b})
    assert np.array_equal(result.array("c", np.float32).reshape(rows, columns), a @ b)


def test_transpose(run_cuda: Run) -> None:
    rows, columns = 77, 130
    values = np.random.default_rng(4).standard_normal((rows, columns))
    result = run_cuda("transpose", {"shape": np.array([rows, columns], np.int32), "in": values})
    assert np.array_equal(result.array("out", np.float64).reshape(columns, rows), values.T)
    box = np.full((4, 5, 64), 0x11, np.uint8)
    box[0, :, 8:24] = 0x77
    assert np.array_equal(result.array("box", np.uint8).reshape(4, 5, 64), box)


def test_reduction(run_cuda: Run) -> None:
    ints = integers(5, -1000, 1000, 70_001, np.int32)
    longs = integers(6, -(1 << 40), 1 << 40, 30_000, np.int64)
    doubles = integers(7, -(1 << 30), 1 << 30, 50_000, np.float64) / 1024  # sums are exact in any order
    floats = np.random.default_rng(8).standard_normal(640).astype(np.float32)
    result = run_cuda("reduction", {"ints": ints, "longs": longs, "doubles": doubles, "floats": floats})
    assert result.lines == [f"int {ints.sum()}", f"int64 {longs.sum()}", f"double {doubles.sum():.17g}"]
    largest = np.repeat(floats.reshape(-1, 32).max(axis=1), 32)
    assert np.array_equal(result.array("largest", np.float32), largest)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 70_000])
def test_scan(run_cuda: Run, length: int) -> None:
    values = integers(length, -100, 100, length, np.int32)
    result = run_cuda("scan", {"in": values})
    assert np.array_equal(result.array("out", np.int32), np.cumsum(values, dtype=np.int32))


def test_histogram(run_cuda: Run) -> None:
    values = np.random.default_rng(9).binomial(255, 0.4, 60_000).astype(np.uint8)
    result = run_cuda("histogram", {"in": values})
    counts = np.bincount(values, minlength=256)
    assert np.array_equal(result.array("global", np.uint32), counts)
    assert np.array_equal(result.array("shared", np.uint32), counts)


def test_bitonic_sort(run_cuda: Run) -> None:
    keys = integers(10, 0, 3000, 8192, np.uint32)
    result = run_cuda("bitonic_sort", {"keys": keys})
    order = np.argsort(keys, kind="stable")
    expected = np.stack([keys[order], order.astype(np.uint32)], axis=1)
    assert np.array_equal(result.array("sorted", np.uint32).reshape(-1, 2), expected)


def test_cooperative_groups(run_cuda: Run) -> None:
    values = integers(11, 0, 50_000, 1024, np.int32)
    result = run_cuda("cooperative", {"in": values})
    tiles = values.reshape(-1, 8)
    assert np.array_equal(result.array("sums", np.int32), tiles.sum(axis=1))
    assert np.array_equal(result.array("scans", np.int32).reshape(-1, 8), np.cumsum(tiles, axis=1))
    assert result.lines == [f"odd {(values & 1).sum()}", "too many blocks: cudaErrorCooperativeLaunchTooLarge"]
    ring = values.copy()
    for _ in range(9):
        ring = (np.roll(ring, 1) + 2 * ring + np.roll(ring, -1)) & 0xFFFF
    assert np.array_equal(result.array("smooth", np.int32), ring)


def test_streams_and_events(run_cuda: Run) -> None:
    values = np.random.default_rng(12).standard_normal(8192).astype(np.float32)
    result = run_cuda("streams_events", {"in": values})
    assert result.lines == [
        "before: stream cudaErrorNotReady, event cudaErrorNotReady",
        "after: stream cudaSuccess, event cudaSuccess",
        "order 0 1 2 3 4 5 6 7 8 9",
        "called 11",
        "legacy 10 11 12 13 14 15",
        "threads 50 50 50 50",
    ]
    expected = values.astype(np.float64)
    for _ in range(3):  # one fused multiply-add each: doubling is exact, one rounding
        expected = (expected * 2 + 1).astype(np.float32).astype(np.float64)
    assert np.array_equal(result.array("out", np.float32), expected.astype(np.float32))


def test_graphs(run_cuda: Run) -> None:
    assert run_cuda("graphs").lines == [
        "capturing 1",
        "captured nodes 11",
        "captured 615",
        "explicit nodes 6 edges 6",
        "explicit 12",
        "host calls 6",
        "after node update 57",
        "update result 0",
        "after graph update 507",
        "child 615",
        "synchronise while capturing: cudaErrorStreamCaptureUnsupported",
        "end of capture: cudaErrorStreamCaptureInvalidated",
    ]


def test_device_printf(run_cuda: Run) -> None:
    lines = run_cuda("device_printf").lines
    assert lines[:8] == [
        "int -42    42|42   |00042 +42",
        "unsigned 42 beef BEEF 0xbeef 10",
        "long -5000000000 -5000000000 18446744073709551615 123456789abcdef",
        "float 1.500000 3.142       2.50|2.50      |1.234568e+04 0.0001 1E+20",
        "special inf -inf 0.000000",
        "char abc percent % string text|     right|left      |cut",
        "star      7|1.23",
        "no arguments",
    ]
    assert sorted(lines[8:14]) == [f"block {b} thread {t}" for b in range(2) for t in range(3)]
    # printf in a kernel returns how many arguments it took, not how many characters it wrote.
    assert lines[14:] == ["four", "returned 0", "host after"]


def test_managed_memory(run_cuda: Run) -> None:
    lines = run_cuda("managed_memory").lines
    squares = [sum((i % 100 + r) ** 2 for i in range(5000)) for r in range(3)]
    assert lines == [
        "counter 156 table 2 16",
        "list 55 then 1055",
        "managed 1",
        *(f"round {r} {total}" for r, total in enumerate(squares)),
    ]


def test_constant_memory(run_cuda: Run) -> None:
    values = integers(13, -50, 50, 500, np.float32)
    result = run_cuda("constant_memory", {"in": values})
    assert result.lines == [f"counter {100 + sum(range(32))} text from the device filter 32 bytes"]
    padded = np.pad(values, 2, mode="edge")
    expected = sum(w * padded[k : k + 500] for k, w in enumerate((1, 2, 4, 2, 1)))
    index = np.arange(500)
    expected += np.array([10, 20, 30, 40])[index % 4] + np.array([2, 3, 5, 7, 11, 6])[index % 6]
    assert np.array_equal(result.array("out", np.float32), expected.astype(np.float32))


def test_function_pointers_recursion_and_virtual_calls(run_cuda: Run) -> None:
    kinds = integers(14, 0, 3, 300, np.int32)
    result = run_cuda("function_pointers", {"kinds": kinds})
    i = np.arange(300)
    expected = np.select([kinds == 0, kinds == 1, kinds == 2], [i + 3, i - 3, i * 3]) + 2 * i
    assert np.array_equal(result.array("applied", np.int32), expected)
    lanes = np.arange(32)
    areas = np.where(lanes % 2, lanes * lanes, lanes * 0.5).astype(np.float32)
    assert np.array_equal(result.array("areas", np.float32), areas)
    assert result.lines == ["ackermann 4 5 9"]
    sums = []
    for lane in range(32):
        total = 0
        for place in range(12):
            total = total * 3 + 100 * lane + ((place * 5) % 12 + lane) % 12
        sums.append(total)
    assert result.array("words", np.int64).tolist() == sums


def test_mapped_memory(run_cuda: Run) -> None:
    n = 3000
    mapped = sum(range(n)) + 10 * n
    assert run_cuda("mapped_memory").lines == [
        f"mapped {mapped}",
        f"registered {2 * sum(range(n)) - n}",
        f"pinned {mapped + 5 * n}",
        "mapped type 1 device pointer 1 host pointer 1",
        "registered type 1 device pointer 1 host pointer 1",
        "device type 2 device pointer 1 host pointer 0",
        "stack type 0 device pointer 0 host pointer 1",
        "inside type 2 device pointer 1 host pointer 0",
        "register twice: cudaErrorHostMemoryAlreadyRegistered",
        "unregister twice: cudaErrorHostMemoryNotRegistered",
    ]


def test_several_devices_and_peers(run_cuda: Run) -> None:
    assert run_cuda("devices_peer", options={"devices": 3}).lines == [
        "devices 3",
        "peer copy 20000 21023",
        "can access 1",
        "enable twice: cudaErrorPeerAccessAlreadyEnabled",
        f"peer read 30000 {10000 + 20000 + 2 * 1023}",
        "default copy 30002",
        "owner 1",
        "ordered 7",
        "no such device: cudaErrorInvalidDevice",
    ]


def test_stream_ordered_allocation(run_cuda: Run) -> None:
    assert run_cuda("async_allocator").lines == [
        f"sum {3 * sum(range(20))}",
        "used 0 reserved enough 1 high 1",
        "reserved after trim 0",
        "own pool 77",
    ]


def test_occupancy_and_attributes(run_cuda: Run) -> None:
    assert run_cuda("occupancy").lines == [
        "static shared 0 4000",
        "threads 1024 128",
        "without opt-in: cudaErrorInvalidValue",
        "with opt-in: 255 0",
        "beyond the bound: cudaErrorInvalidValue",
    ]


def test_atomics(run_cuda: Run) -> None:
    threads = 8 * 96
    ids = range(threads)
    xor = 0
    for i in ids:
        xor ^= i
    assert run_cuda("atomics").lines == [
        f"{sum(ids)} {-sum(ids)} {-(threads - 1)} {threads - 1} {-(1 << 31)} {(1 << 31) - 1} {xor} "
        f"{threads % 100} {(50 - threads % 50) % 50} {threads << 40} {(threads - 1) << 33} 12345 ",
        f"{threads * 0.25:g} {threads * 0.5:g} 1024 32 -64",
        "locked 8 0xff",
        f"total {8 * sum(range(96)) + sum(range(8))}",
    ]


def collatz(value: int) -> int:
    steps = 0
    while value != 1:
        value = 3 * value + 1 if value % 2 else value // 2
        steps += 1
    return steps


def test_warp_intrinsics(run_cuda: Run) -> None:
    values = integers(15, -40, 41, 64, np.int32)
    words = np.random.default_rng(16).integers(0, 1 << 32, 64, dtype=np.uint32)
    result = run_cuda("warp_intrinsics", {"in": values, "words": words})
    got = result.array("votes", np.uint32).reshape(64, 12)
    positive = values > 0
    for thread in range(64):
        start = thread & ~31
        warp, flags = values[start : start + 32], positive[start : start + 32]
        lane = thread & 31
        source = lane - 3 if (lane & 15) >= 3 else lane
        expected = [
            sum(int(flag) << i for i, flag in enumerate(flags)),
            1,
            int((warp == 3).any()),
            sum(1 << i for i, v in enumerate(warp) if v & 3 == values[thread] & 3),
            int(warp.sum()) & 0xFFFFFFFF,
            int(warp.max()) & 0xFFFFFFFF,
            int(warp[5]) & 0xFFFFFFFF,
            int(warp[source]) & 0xFFFFFFFF,
        ]
        assert got[thread, :8].tolist() == expected, thread
        first = start + int(flags.argmax())
        assert got[thread, 8:10].tolist() == ([int(flags.sum()), first] if positive[thread] else [1000, 1000])
        assert got[thread, 10] == positive.sum()
        assert got[thread, 11] == (2 if (values == 7).any() else 0) + 1
    assert result.array("collatz", np.int32).tolist() == [collatz(abs(int(v)) + 1) for v in values]
    bits = result.array("bits", np.uint32).reshape(64, 10)
    for thread in range(64):
        a, b = int(words[thread]), int(words[thread ^ 1])
        bytes_a, bytes_b = a.to_bytes(4, "little"), b.to_bytes(4, "little")
        signed_a, signed_b = (np.frombuffer(v, np.int8).astype(int) for v in (bytes_a, bytes_b))
        expected = [
            a.bit_count(),
            32 - a.bit_length(),
            (a & -a).bit_length(),
            int(f"{a:032b}"[::-1], 2),
            bytes_a[0] | bytes_b[0] << 8 | bytes_a[1] << 16 | bytes_b[1] << 24,
            (b << 32 | a) << 11 >> 32 & 0xFFFFFFFF,
            a * b >> 32,
            sum(min(x + y, 255) << 8 * i for i, (x, y) in enumerate(zip(bytes_a, bytes_b, strict=True))),
            int(signed_a @ signed_b + 100) & 0xFFFFFFFF,
            abs(a - b) + 7 & 0xFFFFFFFF,
        ]
        assert bits[thread].tolist() == expected, thread
    relay = result.array("relay", np.int32).reshape(5, 32)
    assert np.array_equal(relay, np.arange(5)[:, None] ** 2 + np.arange(32, 64))
