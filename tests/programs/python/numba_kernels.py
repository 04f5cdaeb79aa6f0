"""Numba: @cuda.jit, shared, constant, local memory, atomics, @vectorize, @guvectorize, streams, reductions, errors."""

import math

import numpy as np
from numba import cuda, float32, guvectorize, int64, vectorize

TABLE = np.array([2.0, 3.0, 5.0, 7.0], dtype=np.float32)


@cuda.jit
def saxpy(a, x, y, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a * x[i] + y[i]


@cuda.jit
def multiply(a, b, c):
    tile_a = cuda.shared.array((16, 16), float32)
    tile_b = cuda.shared.array((16, 16), float32)
    row, column = cuda.grid(2)
    ty, tx = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for step in range(a.shape[1] // 16):
        tile_a[ty, tx] = a[row, step * 16 + tx]
        tile_b[ty, tx] = b[step * 16 + ty, column]
        cuda.syncthreads()
        for k in range(16):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    c[row, column] = total


@cuda.jit
def histogram(values, bins, extremes):
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(bins, values[i] % bins.size, 1)
        cuda.atomic.max(extremes, 0, values[i])
        cuda.atomic.min(extremes, 1, values[i])


@cuda.jit(device=True)
def polynomial(x, table):
    total = 0.0
    for coefficient in table:
        total = total * x + coefficient
    return total


@cuda.jit
def evaluate(x, out):
    table = cuda.const.array_like(TABLE)
    scratch = cuda.local.array(4, float32)
    i = cuda.grid(1)
    if i < x.size:
        for k in range(4):
            scratch[k] = table[k]
        out[i] = polynomial(x[i], scratch)


@cuda.jit
def warp_sums(values, out):
    i = cuda.grid(1)
    total = values[i]
    for offset in (16, 8, 4, 2, 1):
        total += cuda.shfl_down_sync(0xFFFFFFFF, total, offset)
    if cuda.laneid == 0:
        out[i // 32] = total


@cuda.jit
def special(x, out):
    i = cuda.grid(1)
    if i < x.size:
        out[i, 0] = math.sin(x[i])
        out[i, 1] = math.exp(x[i])
        out[i, 2] = math.sqrt(abs(x[i]))
        out[i, 3] = math.pow(abs(x[i]), 1.5)
        out[i, 4] = math.erf(x[i])


@vectorize(["float64(float64, float64)"], target="cuda")
def blend(a, b):
    return a * 0.25 + b * 0.75


@guvectorize([(int64[:], int64[:])], "(n)->(n)", target="cuda")
def running_sum(values, out):
    total = 0
    for i in range(values.shape[0]):
        total += values[i]
        out[i] = total


@cuda.reduce
def add(a, b):
    return a + b


@cuda.jit
def speak(n):
    i = cuda.grid(1)
    if i < n:
        print("thread", i, i * 1.5)


@cuda.jit(debug=True, opt=False)
def checked(values):
    if values[0] != 3:
        raise ValueError("not three")


def main() -> None:
    n = 1000
    x, y = np.arange(n, dtype=np.float32), np.ones(n, dtype=np.float32)
    out = np.zeros(n, dtype=np.float32)
    saxpy[(n + 127) // 128, 128](np.float32(2), x, y, out)
    print("saxpy", bool((out == 2 * x + y).all()))

    a = (np.arange(48 * 32).reshape(48, 32) % 7).astype(np.float32)
    b = (np.arange(32 * 64).reshape(32, 64) % 5).astype(np.float32)
    c = cuda.device_array((48, 64), dtype=np.float32)
    multiply[(3, 4), (16, 16)](cuda.to_device(a), cuda.to_device(b), c)
    print("matrix product", bool((c.copy_to_host() == a @ b).all()))

    values = (np.arange(5000) * 7919) % 1013
    bins, extremes = np.zeros(10, dtype=np.int64), np.array([-1, 1 << 40], dtype=np.int64)
    histogram[4, 64](values, bins, extremes)
    print("histogram", bool((bins == np.bincount(values % 10, minlength=10)).all()), extremes.tolist())

    small = np.arange(8, dtype=np.float64)
    results = np.zeros(8)
    evaluate[1, 32](small, results)
    print("polynomial", results.tolist())

    lanes = np.arange(128, dtype=np.int32)
    sums = np.zeros(4, dtype=np.int32)
    warp_sums[2, 64](lanes, sums)
    print("warp sums", sums.tolist())

    points = np.linspace(-2, 2, 101)
    table = np.zeros((101, 5))
    special[1, 128](points, table)
    expected = np.stack(
        [np.sin(points), np.exp(points), np.sqrt(np.abs(points)), np.abs(points) ** 1.5, [math.erf(p) for p in points]],
        axis=1,
    )
    print("special", bool(np.allclose(table, expected, rtol=1e-14, atol=1e-15)))

    print("vectorize", blend(np.arange(5.0), np.full(5, 8.0)).tolist())
    print("guvectorize", running_sum(np.arange(12).reshape(3, 4)).tolist())
    print("reduce", int(add(np.arange(1001))))

    stream = cuda.stream()
    with stream.auto_synchronize():
        there = cuda.to_device(x, stream=stream)
        saxpy[8, 128, stream](np.float32(3), there, there, there)
        back = there.copy_to_host(stream=stream)
    print("stream", bool((back == 4 * x).all()))
    start, end = cuda.event(), cuda.event()
    start.record()
    end.record()
    end.synchronize()
    print("events", cuda.event_elapsed_time(start, end) >= 0)
    mapped = cuda.mapped_array(16, dtype=np.int64)
    mapped[:] = 5
    histogram[1, 32](mapped, bins, extremes)
    cuda.synchronize()
    print("mapped", int(bins[5]) - int(np.bincount(values % 10, minlength=10)[5]))

    speak[1, 32](3)
    cuda.synchronize()
    try:
        checked[1, 1](np.array([4]))
        cuda.synchronize()
    except ValueError as error:
        print("exception", error)
    print("device", cuda.get_current_device().warp_size, len(cuda.gpus))


main()
