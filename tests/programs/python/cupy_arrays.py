"""CuPy's array functions: element-wise, broadcasting, reductions, indexing, sorting, scanning.

Every case is a function of `xp` and runs unchanged with NumPy, which is what the test compares with. Run as a program
it computes them all with CuPy and saves arrays.npz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Xp = Any
CASES: dict[str, Callable[[Xp], Any]] = {}


def case(function: Callable[[Xp], Any]) -> Callable[[Xp], Any]:
    CASES[function.__name__] = function
    return function


def data(xp: Xp, *shape: int, dtype: str = "float64", seed: int = 1) -> Any:
    return xp.asarray((np.random.default_rng(seed).standard_normal(shape) * 10).astype(dtype))


@case
def arange_sum(xp: Xp) -> Any:
    return xp.arange(10**6).sum()


@case
def element_wise(xp: Xp) -> Any:
    a, b = data(xp, 1000), data(xp, 1000, seed=2)
    return xp.stack([a + b, a * b - 3, a / b, xp.floor(a), xp.maximum(a, b), xp.abs(a), xp.sign(a), a**2])


@case
def element_wise_single(xp: Xp) -> Any:
    a, b = data(xp, 999, dtype="float32"), data(xp, 999, dtype="float32", seed=2)
    return xp.stack([a + b, a * b, a / b, xp.sqrt(xp.abs(a)), xp.rint(a), xp.trunc(b), xp.copysign(a, b)])


@case
def transcendental(xp: Xp) -> Any:
    a = xp.asarray(np.linspace(-3, 3, 501))
    return xp.stack([xp.sin(a), xp.cos(a), xp.exp(a), xp.tanh(a), xp.arctan(a), xp.log1p(a * a), xp.cbrt(a)])


@case
def halves(xp: Xp) -> Any:
    a, b = data(xp, 512, dtype="float16"), data(xp, 512, dtype="float16", seed=3)
    return xp.stack([a + b, a - b, a * b, xp.minimum(a, b), xp.where(a > b, a, -b)])


@case
def integer_arithmetic(xp: Xp) -> Any:
    a = xp.arange(-500, 500, dtype="int32")
    b = xp.where(a % 7 == 0, 3, a % 7)
    return xp.stack([a // b, a % b, a << 3, a >> 2, a & 0x55, a | b, a ^ b, ~a, xp.gcd(a, b), -a])


@case
def integer_widths(xp: Xp) -> Any:
    parts = []
    for dtype in ("int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"):
        a = xp.arange(300).astype(dtype)
        parts.append((a * a + a // (a % 5 + 1).astype(dtype)).astype("int64"))
    return xp.stack(parts)


@case
def complex_numbers(xp: Xp) -> Any:
    a = data(xp, 200) + 1j * data(xp, 200, seed=4)
    return xp.stack([a * a, a / (1 + xp.abs(a)), xp.conj(a), a.real + 1j * xp.angle(a)])


@case
def conversions(xp: Xp) -> Any:
    a = data(xp, 300)
    return xp.concatenate([a.astype(t).astype("float64") for t in ("float32", "float16", "int32", "int8", "bool")])


@case
def broadcasting(xp: Xp) -> Any:
    a, b, c = data(xp, 8, 1, 6), data(xp, 7, 1, seed=5), data(xp, 6, seed=6)
    return (a + b) * c - xp.broadcast_to(b, (8, 7, 6))


@case
def reductions(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(7).integers(-50, 50, (40, 30, 20)))
    parts = [a.sum(axis=0).ravel(), a.sum(axis=(1, 2)), a.max(axis=1).ravel(), a.min(axis=2).ravel()]
    totals = xp.asarray([a.sum(), a.min(), a.max(), a.argmax(), a.argmin(), xp.count_nonzero(a)])
    return xp.concatenate([*parts, a.prod(axis=2).ravel() % 97, totals])


@case
def logical_reductions(xp: Xp) -> Any:
    a = data(xp, 50, 60) > 0
    return xp.concatenate([a.all(axis=0), a.any(axis=1), xp.asarray([bool(a.any()), bool(a.all())])])


@case
def float_reductions(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(8).integers(-1000, 1000, (64, 500)) / 8)  # exact in any order
    return xp.concatenate([a.sum(axis=1), a.mean(axis=0), a.max(axis=1), xp.asarray([a.var(), a.std(), a.mean()])])


@case
def basic_indexing(xp: Xp) -> Any:
    a = xp.arange(1000).reshape(10, 20, 5)
    return xp.concatenate([a[2:8:3, ::-4, 1].ravel(), a[..., -1].T.ravel(), a[3].ravel(), a[:, None, 4, :2].ravel()])


@case
def fancy_indexing(xp: Xp) -> Any:
    a = data(xp, 30, 40)
    rows, columns = xp.asarray([1, 5, 29, 0]), xp.asarray([39, 2, 2, 7])
    return xp.concatenate([a[rows].ravel(), a[rows, columns], a[:, columns].ravel(), xp.take(a, rows, axis=1).ravel()])


@case
def boolean_indexing(xp: Xp) -> Any:
    a = data(xp, 5000)
    return xp.concatenate([a[a > 3], a[(a < 0) & (xp.abs(a) < 1)], xp.flatnonzero(a > 15)])


@case
def assignment(xp: Xp) -> Any:
    a = xp.zeros((20, 20))
    a[3:9, ::2] = 7
    a[xp.asarray([1, 19])] += 2
    a[a == 7] = xp.arange(60)
    xp.put(a, xp.asarray([0, 399]), xp.asarray([11.0, 12.0]))
    return a


@case
def where_choose_clip(xp: Xp) -> Any:
    a = data(xp, 400)
    return xp.stack([xp.where(a > 0, a, a * 2), xp.clip(a, -5, 5), xp.nan_to_num(xp.sqrt(xp.maximum(a, 0)))])


@case
def reshaping(xp: Xp) -> Any:
    a = xp.arange(240).reshape(4, 5, 12)
    return xp.concatenate(
        [
            a.transpose(2, 0, 1).ravel(),
            xp.rot90(a[0]).ravel(),
            xp.tile(a[0, 0], 3),
            xp.repeat(a[1, 1], 2),
            xp.roll(a, 7).ravel(),
        ]
    )


@case
def sorting(xp: Xp) -> Any:
    a = data(xp, 3000)
    return xp.concatenate([xp.sort(a), xp.sort(a.reshape(30, 100), axis=0).ravel(), xp.partition(a, 5)[5:6]])


@case
def sorting_integers(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(9).integers(-10000, 10000, 5000).astype("int32"))
    return xp.concatenate([xp.sort(a), xp.unique(a), xp.argsort(xp.unique(a)[::-1]).astype("int32")])


@case
def sorting_by_keys(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(10).permutation(2000))
    return xp.concatenate([xp.argsort(a), xp.lexsort(xp.stack([a, a % 10])), xp.searchsorted(xp.sort(a), a[:50])])


@case
def scanning(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(11).integers(-9, 10, 4000))
    return xp.concatenate([xp.cumsum(a), xp.cumsum(a.reshape(40, 100), axis=0).ravel(), xp.cumprod(a[:12] % 3 + 1)])


@case
def counting(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(12).integers(0, 50, 6000))
    counts, _ = xp.histogram(a, bins=25, range=(0, 50))
    return xp.concatenate([xp.bincount(a, minlength=50), counts, xp.diff(a)])


@case
def product_by_broadcasting(xp: Xp) -> Any:
    a = xp.asarray(np.random.default_rng(13).integers(-9, 10, (33, 45)))  # `@` would need the cuBLAS wheel
    return (a[:, :, None] * a.T[None]).sum(axis=1)


@case
def joining(xp: Xp) -> Any:
    a, b = data(xp, 6, 4), data(xp, 6, 4, seed=14)
    return xp.concatenate([xp.hstack([a, b]).ravel(), xp.vstack([a, b]).ravel(), xp.stack([a, b], axis=1).ravel()])


def main() -> int:
    import cupy

    chosen = sys.argv[1:] or list(CASES)
    np.savez("arrays.npz", **{name: cupy.asnumpy(CASES[name](cupy)) for name in chosen})
    print(f"computed {len(chosen)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
