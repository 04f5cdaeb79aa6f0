"""Unmodified CuPy, Numba and pynvml programs: what they print and save, against NumPy and known values."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]
SCRIPTS = Path(__file__).parent / "python"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ARRAYS = load("cupy_arrays")
# Functions whose last bits CUDA's and the host's mathematics may round differently; all others must agree exactly.
ROUNDED = {"transcendental": 4, "complex_numbers": 8, "element_wise": 1, "float_reductions": 8}
GROUPS = {
    "element-wise": ("arange_sum", "element_wise", "element_wise_single", "transcendental", "halves"),
    "integers": ("integer_arithmetic", "integer_widths", "conversions"),
    "broadcasting": ("complex_numbers", "broadcasting", "where_choose_clip"),
    "reductions": ("reductions", "logical_reductions", "float_reductions", "product_by_broadcasting", "counting"),
    "indexing": ("basic_indexing", "fancy_indexing", "boolean_indexing", "assignment", "reshaping", "joining"),
    "sort": ("sorting", "sorting_integers", "sorting_by_keys"),
    "scan": ("scanning",),
}  # fmt: skip


def test_every_case_is_in_a_group() -> None:
    assert sorted(ARRAYS.CASES) == sorted(name for names in GROUPS.values() for name in names)


@pytest.mark.parametrize("group", GROUPS)
def test_cupy_arrays(run_python: Run, group: str) -> None:
    result = run_python("cupy_arrays", GROUPS[group])
    assert result.lines == [f"computed {len(GROUPS[group])}"]
    with np.load(result.folder / "arrays.npz") as computed:
        for name in GROUPS[group]:
            got, want = computed[name], np.asarray(ARRAYS.CASES[name](np))
            assert got.shape == want.shape, name
            if name in ROUNDED:
                parts = [(got.real, want.real), (got.imag, want.imag)] if np.iscomplexobj(got) else [(got, want)]
                for one, other in parts:
                    scale = np.maximum(np.abs(want), np.finfo(np.float64).tiny)
                    assert (np.abs(one - other) <= ROUNDED[name] * np.spacing(scale)).all(), name
            else:
                assert np.array_equal(got, want, equal_nan=True), name


def test_cupy_sum_of_a_million(run_program: Run) -> None:
    """The sentence of the README, with the stock wheel."""
    import sys

    result = run_program([sys.executable, "-c", "import cupy as c; print(int(c.arange(10**6).sum()))"])
    assert result.lines == ["499999500000"]


def test_cupy_textures(run_python: Run) -> None:
    cases = ("copied", "moved", "mixed", "doubled", "turned", "volume", "bytes")
    assert run_python("cupy_textures").lines == [f"{case} True" for case in cases]


def test_cupy_kernels(run_python: Run) -> None:
    n = 1000
    saxpy = [3.0 * i + 1 for i in range(n)]
    assert run_python("cupy_kernels").lines == [
        f"saxpy {sum(saxpy)} {saxpy[-1]}",
        f"scaled {[float(i * f) for i, f in zip(range(6), (1, 10, 100, 1000, 1, 10), strict=True)]}",
        "counter 42",
        "reversed [63, 62, 61] [194, 193, 192] True",
        f"float template {float(sum(2 * i for i in range(0, n, 3)))}",
        f"integer template {sum(2 * i for i in range(0, n, 2))}",
        f"element-wise {sum((i - 3) ** 2 for i in range(10))}",
        f"reduction {[sum((10 * r + c) ** 2 for c in range(10)) for r in range(10)]}",
        "fused [5.0, 13.0]",
        "compile error True",
        "absent CUDA_ERROR_NOT_FOUND",
    ]


@pytest.mark.parametrize("servers", [1, 2])
def test_cupy_on_several_gpus(run_python: Run, servers: int) -> None:
    matrix = np.random.default_rng(3).integers(-8, 9, (60, 60)).sum()
    each = [line for d in range(3) for line in (f"{d} True True", f"{d} True {float(matrix)}")]
    assert run_python("cupy_several_gpus", options={"devices": 3, "servers": servers}).lines == [
        "devices 3",
        *each,
        "carried True 2",
        "copied True True",
    ]


@pytest.mark.parametrize("servers", [1, 2])
def test_cupy_runtime(run_python: Run, servers: int) -> None:
    assert run_python("cupy_runtime", options={"devices": 2, "servers": servers}).lines == [
        f"streams {float(2 * sum(range(100_000)))} True",
        "events True 1000.0",
        "host function ['called']",
        f"pool used {1 << 20} True",
        "pool after 0 True",
        "pool limit held",
        "asynchronous pool 499500",
        "managed pool 499500",
        "pinned 499500.0",
        "memory info True",
        "devices 2",
        "made on 1",
        f"copied to 0 {list(range(5, 15))}",
        "graph {22.0}",
        "launch CUDA_ERROR_INVALID_VALUE",
        "fault cudaErrorIllegalAddress",
    ]


def test_cupy_random(run_python: Run) -> None:
    """Mean and deviation within five standard errors of the distribution's; the range where it has one."""
    names = ("random", "normal", "randint", "exponential", "poisson", "same", "different", "permutation")
    generator = ("generator random", "generator normal", "generator integers", "generator same")
    # The software GPU tells CUDA runtimes 99.0 by default and the driver API 12.1. Forwarding knows one only, the
    # driver's, and cuRAND then picks machine code: the server of the forwarded run says 99.0 to everyone.
    printed = run_python("cupy_random", options={"compute_capability": "99.0"}).lines
    lines = dict(zip((*names, *generator), printed, strict=True))
    n = 20_000
    expected = {
        "random": (0.5, math.sqrt(1 / 12), 0, 1),
        "normal": (0, 1, -6, 6),
        "randint": (0, math.sqrt(10), -5, 5),
        "exponential": (2, 2, 0, 60),
        "poisson": (4, 2, 0, 25),
        "generator random": (0.5, math.sqrt(1 / 12), 0, 1),
        "generator normal": (0, 1, -6, 6),
        "generator integers": (49.5, math.sqrt((100**2 - 1) / 12), 0, 99),
    }
    for name, (mean, deviation, low, high) in expected.items():
        count, got_mean, got_deviation, least, most = map(float, lines[name].removeprefix(name).split())
        assert count == n, name
        assert abs(got_mean - mean) <= 5 * deviation / math.sqrt(n), lines[name]
        assert abs(got_deviation / deviation - 1) <= 0.05, lines[name]
        assert low <= least < mean < most <= high, lines[name]
    assert lines["same"] == "same True"
    assert lines["different"] == "different True"
    assert lines["permutation"] == "permutation True True"
    assert lines["generator same"] == "generator same True"


def test_numba(run_python: Run) -> None:
    points = [float(np.polyval([2, 3, 5, 7], x)) for x in range(8)]
    assert run_python("numba_kernels").lines == [
        "saxpy True",
        "matrix product True",
        "histogram True [1012, 0]",
        f"polynomial {points}",
        f"warp sums {[sum(range(32 * w, 32 * w + 32)) for w in range(4)]}",
        "special True",
        f"vectorize {[0.25 * i + 6.0 for i in range(5)]}",
        "guvectorize [[0, 1, 3, 6], [4, 9, 15, 22], [8, 17, 27, 38]]",
        "reduce 500500",
        "stream True",
        "events True",
        "mapped 16",
        "thread 0 0.000000",
        "thread 1 1.500000",
        "thread 2 3.000000",
        "exception not three",
        "device 32 1",
    ]


def test_nvml(run_python: Run) -> None:
    lines = run_python("nvml_report", options={"devices": 2, "memory": 2048}, library="libnvidia-ml.so.1").lines
    assert lines[:2] == ["devices 2", "driver version True True"]
    for index in range(2):
        assert lines[2 + 2 * index] == f"device {index} True True True True {index} True"
        assert lines[3 + 2 * index] == "utilization True"
    assert lines[6:] == ["memory in use grows True", "no such device True", "after shutdown True"]
