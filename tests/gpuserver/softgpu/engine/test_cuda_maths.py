"""What CUDA C++'s mathematics and atomics compile to, on the engine, against NumPy and the host's libm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special

from tests.gpuserver.softgpu.engine.cuda_source import compile_to_ptx
from tests.gpuserver.softgpu.ptx_instructions.ptx_engine import Program

I32 = np.int32
Reference = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def by_element(function: Callable[[float], float]) -> Reference:
    return lambda x: np.array([function(float(v)) for v in x])


# Name of the kernel without its type; reference; whether negative values are in its domain; allowed error in ulp of
# float32 and of float64 (CUDA C++ Programming Guide, "Mathematical Functions").
FUNCTIONS: list[tuple[str, Reference, bool, float, float]] = [
    ("sin", np.sin, True, 2, 2),
    ("cos", np.cos, True, 2, 2),
    ("tan", np.tan, True, 4, 2),
    ("exp", np.exp, True, 2, 1),
    ("log", np.log, False, 1, 1),
    ("tanh", np.tanh, True, 2, 1),
    ("erf", by_element(math.erf), True, 2, 2),
    ("cbrt", np.cbrt, True, 1, 1),
    ("atan", np.arctan, True, 2, 2),
    ("lgamma", scipy.special.gammaln, False, 6, 4),
    ("sqrt", np.sqrt, False, 0, 0),
    ("rsqrt", lambda x: 1 / np.sqrt(x), False, 2, 1),
    ("pow", lambda x: np.abs(x) ** (float(np.float32(1.7))), True, 4, 64),
    ("fmod", lambda x: np.fmod(x, 1.3), True, 0, 0),
    ("inverse", lambda x: 1 / x, True, 0, 0),
]


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program(compile_to_ptx("maths")) as loaded:
        yield loaded


def values(negative: bool, dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(9)
    x = np.concatenate([rng.random(400) * 4, rng.random(200) * 100, 10.0 ** rng.uniform(-8, 4, 200)])
    if negative:
        x = x * rng.choice([-1, 1], len(x))
    return x.astype(dtype).astype(np.float64)


@pytest.mark.parametrize(
    ("name", "reference", "negative", "single_ulp", "double_ulp"), FUNCTIONS, ids=[case[0] for case in FUNCTIONS]
)
@pytest.mark.parametrize("kind", ["f", "d"])
def test_function(
    program: Program,
    kind: str,
    name: str,
    reference: Reference,
    negative: bool,
    single_ulp: float,
    double_ulp: float,
) -> None:
    dtype = np.float32 if kind == "f" else np.float64
    x = values(negative, dtype)
    if name in ("exp", "tan"):
        x = np.clip(x, -80, 80)
    if name == "fmod":
        expected = np.fmod(x.astype(dtype), dtype(1.3)).astype(np.float64)
    elif name == "pow" and kind == "d":
        expected = np.abs(x) ** 1.7
    else:
        with np.errstate(all="ignore"):
            expected = reference(x)
    data, out = x.astype(dtype), np.zeros(len(x), dtype)
    program.launch(f"{kind}_{name}", data, out, I32(len(x)), grid=(7,), block=(128,))
    magnitude = np.abs(expected)
    if name == "lgamma":  # it has zeros, near which neither side is that good
        magnitude = np.maximum(magnitude, 1)
    ulp = np.spacing(magnitude.astype(dtype)).astype(np.float64)
    error = np.abs(out.astype(np.float64) - expected) / ulp
    allowed = single_ulp if kind == "f" else double_ulp
    worst = int(np.nanargmax(error))
    assert error[worst] <= allowed + 0.51, (x[worst], out[worst], expected[worst])


@pytest.mark.parametrize(("name", "reference"), [("floor", np.floor), ("rint", np.rint)])
def test_rounding_functions(program: Program, name: str, reference: Reference) -> None:
    x = np.concatenate([np.arange(-5, 5, 0.25), [1e9, -1e30, 0.49999997]]).astype(np.float32)
    out = np.zeros(len(x), np.float32)
    program.launch(f"f_{name}", x, out, I32(len(x)), block=(64,))
    assert np.array_equal(out, reference(x))


def test_integers(program: Program) -> None:
    rng = np.random.default_rng(10)
    a = rng.integers(-(2**63), 2**63 - 1, 64)
    b = rng.integers(-(2**63), 2**63 - 1, 64) >> rng.integers(0, 62, 64)
    b[b == 0] = 3
    out = np.zeros((64, 10), np.int64)
    program.launch("integers", a, b, out, block=(64,))
    mask = 2**64 - 1

    def signed(v: int, bits: int = 64) -> int:
        v &= (1 << bits) - 1
        return v - (1 << bits) if v >> (bits - 1) else v

    for i in range(64):
        x, y = int(a[i]), int(b[i])
        ux, uy = x & mask, y & mask
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        low_x, low_y = signed(x, 32), signed(y, 32) | 1
        low = abs(low_x) // abs(low_y) * (1 if (low_x < 0) == (low_y < 0) else -1)
        expected = [
            quotient,
            x - quotient * y,
            signed(ux // uy),
            signed(ux % uy),
            (x * y) >> 64,
            signed((ux * uy) >> 64),
            (64 - ux.bit_length()) * 100 + ux.bit_count(),
            signed(int(f"{ux:064b}"[::-1], 2)),
            low,
            x >> (y & 63),
        ]
        assert out[i].tolist() == expected


def test_halves(program: Program) -> None:
    rng = np.random.default_rng(11)
    n = 64
    a, b = (rng.standard_normal(n).astype(np.float16) for _ in range(2))
    out = np.zeros((5, n), np.float16)
    program.launch("halves", a, b, out, I32(n), block=(n,))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    assert np.array_equal(out[0], (wide_a * wide_b + (a + b).astype(np.float64)).astype(np.float16))
    assert np.allclose(out[1].astype(np.float64), wide_a / wide_b, rtol=1e-3)
    assert np.allclose(out[2].astype(np.float64), np.sqrt(np.abs(wide_a)), rtol=1e-3)
    assert np.array_equal(out[3], (a * a) - (b * b))
    assert np.array_equal(out[4], np.maximum(a, b))


def test_bfloats(program: Program) -> None:
    n = 32
    rng = np.random.default_rng(12)
    a = (rng.standard_normal(n).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    b = (rng.standard_normal(n).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

    def widen(x: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)

    def narrow(x: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)

    out = np.zeros((2, n), np.uint16)
    program.launch("bfloats", a, b, out, I32(n), block=(n,))
    assert np.array_equal(out[0], narrow(widen(a) * widen(b) + widen(a)))
    assert np.array_equal(out[1], narrow(widen(a) * 3))


def test_atomics_of_all_types(program: Program) -> None:
    i32 = np.array([0, 0, 0, 0, 0, 0], I32)
    u32 = np.array([0, 0, 0xFFFFFFFF, 0, 0], np.uint32)
    u64 = np.array([0, 0, 0, 0], np.uint64)
    f32, f64 = np.zeros(1, np.float32), np.zeros(1)
    h2 = np.zeros(2, np.float16)
    blocks, threads = 10, 96
    n = blocks * threads
    program.launch("atomics", i32, u32, u64, f32, f64, h2, grid=(blocks,), block=(threads,))
    total = n * (n - 1) // 2
    assert i32.tolist() == [total, -total, -(n - 1), n - 1, 5, 9]
    ors = 0
    xors = 0
    for t in range(n):
        ors |= 1 << (t % 31)
        xors ^= t
    assert u32.tolist() == [n % 100, (-n) % 50, 0, ors, xors]
    assert u64.tolist() == [n << 33, (n - 1) << 40, 2**64 - (n - 1), 77]
    assert (f32[0], f64[0]) == (n * 0.5, n * 0.25)
    assert h2.tolist() == [n, n / 2]


def test_asynchronous_copies(program: Program) -> None:
    data = np.arange(512, dtype=np.float32).reshape(128, 4)
    out = np.zeros_like(data)
    program.launch("async_copies", data, out, block=(64,))
    assert np.array_equal(out[:64], data[63::-1])
    assert np.array_equal(out[64:, :2], data[64:, :2])
    assert not out[64:, 2:].any()


def test_vector_types(program: Program) -> None:
    rng = np.random.default_rng(13)
    a = rng.random((64, 2))
    b = rng.integers(0, 256, (64, 4)).astype(np.uint8)
    c = rng.integers(-9, 9, (64, 2)).astype(np.int16)
    outs = np.zeros_like(a), np.zeros_like(b), np.zeros_like(c)
    program.launch("vectors", a, b, c, *outs, block=(64,))
    assert np.array_equal(outs[0], a[:, ::-1])
    assert np.array_equal(outs[1], b[:, ::-1])
    assert np.array_equal(outs[2], np.stack([c[:, 1], -c[:, 0]], 1))


def test_128_bit_integers(program: Program) -> None:
    data = np.random.default_rng(14).integers(0, 2**63, 32).astype(np.uint64)
    out = np.zeros((32, 2), np.uint64)
    program.launch("wide", data, out)
    for i in range(32):
        x = int(data[i])
        expected = (x * x + (x >> 3)) & (2**128 - 1)
        assert out[i].tolist() == [expected & (2**64 - 1), expected >> 64]
