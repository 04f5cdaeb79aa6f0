"""nvcc-built programs with a static runtime: what they print and save, against NumPy and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
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
        "stack type 0 device pointer 0",
        "inside type 2 device pointer 1 host pointer 0",
        "register twice: cudaErrorHostMemoryAlreadyRegistered",
        "unregister twice: cudaErrorHostMemoryNotRegistered",
    ]


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_several_gpus_of_one_server_or_more(run_cuda: Run, servers: int) -> None:
    """The same program, with the same output, wherever its three GPUs are."""
    result = run_cuda("several_gpus", options={"devices": 3, "servers": servers})
    count, devices = 50_000, 3
    start = np.arange(count) % 1000
    data = [(d + start) * (d + 2) + 10 * d for d in range(devices)]
    lines = ["devices 3"]
    lines += [f"gpu {d}: sum {data[d].sum()}, offset {10 * d}, owner {d}" for d in range(devices)]
    lines.append("copies are right")
    data[0] = 5 + np.arange(count)
    for turn in range(3 * devices):
        data[(turn + 1) % devices] = data[(turn + 1) % devices] + data[turn % devices]
    data = [each.astype(np.int32) for each in data]
    lines += [f"ring {d}: {data[d].sum(dtype=np.int64)}" for d in range(devices)]
    assert np.array_equal(result.array("ring", np.int32), data[-1])
    mapped, managed, counter = np.arange(count), np.arange(count), 100
    for d in range(devices):
        mapped, managed, counter = mapped * (d + 2) + 10 * d, managed * (d + 2) + 10 * d, counter + d + 1001
        mapped[7] += 1
        managed[9] += 1
    lines.append("event of another gpu: cudaErrorInvalidResourceHandle")
    lines.append(f"mapped {mapped.sum()} managed {managed.sum()} counter {counter}")
    lines += [f"thread {d}: {((d + np.arange(100)) << 20).sum()}" for d in range(devices)]
    lines += [f"gpu {d} takes 64 MiB and has them back: 1" for d in range(devices)]
    assert result.lines == lines


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


def test_double_half_and_bfloat16_arithmetic(run_cuda: Run) -> None:
    """Against NumPy, bit for bit: every one of these is rounded once, or exactly as the intrinsic says."""
    rng = np.random.default_rng(17)
    da, db = (rng.standard_normal(500) * 10.0 ** rng.integers(-20, 20, 500) for _ in range(2))
    ha, hb = ((rng.standard_normal(512) * 8).astype(np.float16) for _ in range(2))
    fa, fb = (rng.standard_normal(400).astype(np.float32) for _ in range(2))
    result = run_cuda("double_half", {"da": da, "db": db, "ha": ha, "hb": hb, "fa": fa, "fb": fb})

    doubles = result.array("dout", np.float64).reshape(-1, 8)
    expected = np.stack([da + db, da * db, da / db, np.sqrt(np.abs(da))], axis=1)
    assert np.array_equal(doubles[:, :4], expected)
    for row, a, b in zip(doubles, da.tolist(), db.tolist(), strict=True):
        product, total = Fraction(a) * Fraction(b), Fraction(a) + Fraction(b)
        assert row[4] == float(product + 1)  # Fraction to float rounds once, to nearest even
        toward_zero, upward = float(total), float(product)
        if abs(Fraction(toward_zero)) > abs(total):
            toward_zero = math.nextafter(toward_zero, 0.0)
        if Fraction(upward) < product:
            upward = math.nextafter(upward, math.inf)
        assert (row[5], row[6], row[7]) == (toward_zero, upward, math.fmod(a, b))

    # float32 holds sums and products of halves exactly or with bits to spare: one visible rounding.
    wide_a, wide_b = ha.astype(np.float64), hb.astype(np.float64)
    halves = result.array("hout", np.float16).reshape(-1, 6)
    assert np.array_equal(halves[:, 0], (wide_a + wide_b).astype(np.float16))
    assert np.array_equal(halves[:, 1], (wide_a * wide_b).astype(np.float16))
    assert np.array_equal(halves[:, 2], (wide_a * wide_b + 0.5).astype(np.float16))
    assert np.array_equal(halves[:, 3], np.minimum(ha, hb))
    scaled = ha.astype(np.float32) * np.float32(1.001)
    nearest = scaled.astype(np.float16)
    too_far = np.abs(nearest.astype(np.float32)) > np.abs(scaled)
    assert np.array_equal(halves[:, 4], np.where(too_far, np.nextafter(nearest, np.float16(0)), nearest))
    assert np.array_equal(halves[:, 5], np.clip((wide_a + wide_b).astype(np.float16), 0, 1))
    one_more = (wide_a + 1).astype(np.float16).astype(np.float64)
    assert np.array_equal(result.array("pout", np.float16), (wide_a * wide_b + one_more).astype(np.float16))

    def to_bfloat16(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        """Rounds float64 values that are exact, or odd beyond 24 bits, to the upper half of a float32."""
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)

    def from_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)

    x, y = to_bfloat16(fa), to_bfloat16(fb)
    wide_x, wide_y = from_bfloat16(x), from_bfloat16(y)
    brains = result.array("bout", np.uint16).reshape(-1, 4)
    assert np.array_equal(brains[:, 0], x)
    assert np.array_equal(brains[:, 1], to_bfloat16(wide_x + wide_y))
    assert np.array_equal(brains[:, 2], to_bfloat16(wide_x * wide_y))
    assert np.array_equal(brains[:, 3], to_bfloat16(wide_x * wide_y + wide_x))


# Documented largest errors in units in the last place (CUDA programming guide, "Mathematical Functions Appendix"),
# single and double; one more for our reference's own rounding is added below.
ERRORS: dict[str, tuple[int, int]] = {
    "sin": (2, 2), "cos": (2, 2), "tan": (4, 2), "exp": (2, 1), "exp2": (2, 1), "expm1": (1, 1), "log": (1, 1),
    "log2": (1, 1), "log10": (2, 1), "log1p": (1, 1), "sqrt": (0, 0), "rsqrt": (2, 1), "cbrt": (1, 1),
    "asin": (2, 2), "acos": (2, 2), "atan": (2, 2), "sinh": (3, 2), "cosh": (2, 1), "tanh": (2, 1), "asinh": (3, 3),
    "atanh": (3, 2), "erf": (2, 2), "erfc": (4, 5), "lgamma": (6, 4), "tgamma": (5, 10), "floor": (0, 0),
    "ceil": (0, 0), "trunc": (0, 0), "rint": (0, 0), "round": (0, 0), "fabs": (0, 0), "logb": (0, 0), "j0": (9, 7),
}  # fmt: skip


def test_math_functions_stay_within_their_documented_errors(run_cuda: Run) -> None:
    rng = np.random.default_rng(18)
    plain = np.concatenate([rng.uniform(-3, 3, 900), rng.uniform(-40, 40, 300), [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30]])
    singles = plain.astype(np.float32)
    exponents = rng.uniform(-4, 4, len(plain)).astype(np.float32)
    result = run_cuda("math_functions", {"singles": singles, "doubles": plain, "exponents": exponents})
    worst: dict[str, float] = {}
    for name, limits in ERRORS.items():
        for index, (kind, inputs) in enumerate((("single", singles), ("double", plain))):
            got = result.array(f"{kind}_{name}", inputs.dtype)
            wide = inputs.astype(np.longdouble)
            with np.errstate(all="ignore"):
                want = reference_function(name)(wide)
            assert np.array_equal(np.isnan(got), np.isnan(want)), f"{kind} {name}: NaN"
            with np.errstate(all="ignore"):
                rounded = want.astype(inputs.dtype)
            finite = np.isfinite(rounded)
            assert np.array_equal(got[~finite & ~np.isnan(want)], rounded[~finite & ~np.isnan(want)])
            with np.errstate(all="ignore"):
                step = np.spacing(np.abs(want[finite]).astype(inputs.dtype)).astype(np.longdouble)
            distance = np.abs(got[finite].astype(np.longdouble) - want[finite]) / step
            limit = limits[index] + (1 if limits[index] else 0.5)
            if name in ("j0", "lgamma"):  # their bounds are absolute near the zeros
                distance = np.where(np.abs(want[finite]) < 0.2, 0, distance)
            worst[f"{kind} {name}"] = float(distance.max() - limit)
    assert {name: excess for name, excess in worst.items() if excess > 0} == {}
    powers = result.array("powers", np.float32).reshape(-1, 4)
    a, b = singles.astype(np.float64), exponents.astype(np.float64)
    with np.errstate(all="ignore"):
        for column, (want, ulp) in enumerate(
            ((a**b, 4), (np.arctan2(a, b), 3), (np.hypot(a, b), 3), (np.fmod(a, b), 0))
        ):
            close = np.abs(powers[:, column] - want) <= (ulp + 1) * np.spacing(np.abs(want).astype(np.float32))
            same = powers[:, column] == want.astype(np.float32)
            assert (close | same | (np.isnan(powers[:, column]) & np.isnan(want))).all(), column


def reference_function(name: str) -> Callable[[npt.NDArray[np.longdouble]], npt.NDArray[np.longdouble]]:
    """NumPy's extended precision where it has the function, else 40 digits of mpmath."""
    direct = {
        "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "atanh": np.arctanh,
        "rsqrt": lambda x: np.where(x == 0, np.copysign(np.inf, x), 1 / np.sqrt(x)),
        "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
        "logb": lambda x: np.where(x == 0, -np.inf, np.frexp(x)[1] - np.longdouble(1)),
    }  # fmt: skip
    if name in direct:
        return direct[name]
    if hasattr(np, name):
        return getattr(np, name)  # type: ignore[no-any-return]

    def precise(values: npt.NDArray[np.longdouble]) -> npt.NDArray[np.longdouble]:
        return np.array([_mpmath(name, float(v)) for v in values], dtype=np.longdouble)

    return precise


def _mpmath(name: str, value: float) -> np.longdouble:
    mpmath.mp.dps = 40
    if value == 0 and name in ("lgamma", "tgamma"):
        return np.longdouble(math.inf if name == "lgamma" else math.copysign(math.inf, value))
    if value < 0 and value == math.floor(value) and name in ("lgamma", "tgamma"):
        return np.longdouble(math.inf if name == "lgamma" else math.nan)
    function = {
        "erf": mpmath.erf,
        "erfc": mpmath.erfc,
        "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
        "tgamma": mpmath.gamma,
        "j0": lambda x: mpmath.besselj(0, x),
    }[name]
    return np.longdouble(mpmath.nstr(function(mpmath.mpf(value)), 25))


def test_errors_of_calls(run_cuda: Run) -> None:
    lines = run_cuda("errors", arguments=["immediate"]).lines
    # Older runtimes check the dimensions themselves (InvalidConfiguration); newer ones pass on the driver's code.
    codes = ("cudaErrorInvalidConfiguration", "cudaErrorInvalidValue")
    refused = ["block of 2048", "grid of 1 x 70000", "empty grid", "block of 1 x 1 x 128"]
    for place, what in zip((0, 2, 3, 4), refused, strict=True):
        assert lines[place] in [f"{what}: {code}" for code in codes]
    assert lines[1] == "then: cudaSuccess"
    assert lines[5:] == [
        "1 MiB of shared memory: cudaErrorInvalidValue",
        "malloc of 1 EiB: cudaErrorMemoryAllocation",
        "pointer still null 1",
        "last error: cudaErrorMemoryAllocation",
        "free of a stack address: cudaErrorInvalidValue",
        "free of null: cudaSuccess",
        "copy of a bad kind: cudaErrorInvalidMemcpyDirection",
        "free: cudaSuccess",
        "free again: cudaErrorInvalidValue",
        "null event: cudaErrorInvalidResourceHandle",
        "time of events never recorded: cudaErrorInvalidResourceHandle",
        "peek: cudaSuccess",
        "a good launch: cudaSuccess",
    ]


def test_out_of_memory_and_recovery(run_cuda: Run) -> None:
    assert run_cuda("errors", arguments=["out_of_memory"], options={"memory": 1024}).lines == [
        "in the end: cudaErrorMemoryAllocation",
        "work goes on: cudaSuccess",
        "all given back 1",
    ]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("illegal", "cudaErrorIllegalAddress"),
        ("beyond", "cudaErrorIllegalAddress"),
        ("misaligned", "cudaErrorMisalignedAddress"),
        ("trap", "cudaErrorLaunchFailure"),
        ("assert", "cudaErrorAssert"),
    ],
)
def test_a_kernels_fault_is_sticky(run_cuda: Run, kind: str, error: str) -> None:
    result = run_cuda("errors", arguments=[kind])
    assert result.lines == [
        "launch: cudaSuccess",
        f"synchronise: {error}",
        f"malloc afterwards: {error}",
        f"launch afterwards: {error}",
        f"synchronise afterwards: {error}",
        f"peek: {error}",
    ]
    if kind == "assert":
        told = [line for line in result.errors.splitlines() if "Assertion `value == 3` failed." in line]
        # The first failing thread ends the kernel; how many others still speak is open.
        assert 1 <= len(set(told)) == len(told) <= 4
        assert all("errors.cu" in line and "thread: [" in line for line in told)
