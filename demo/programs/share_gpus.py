"""Ordinary CuPy, on all GPUs it finds: says how many, waits for a line, computes, compares with NumPy."""

import sys

import cupy
import numpy

SIZE = 200_000
count = cupy.cuda.runtime.getDeviceCount()
held = []
for device in range(count):
    with cupy.cuda.Device(device):
        held.append(cupy.zeros(SIZE))
print(f"ready with {count} GPUs", flush=True)
sys.stdin.readline()
seed = int(sys.argv[1])
for device in range(count):
    numbers = numpy.random.default_rng(seed + device).normal(size=SIZE)
    with cupy.cuda.Device(device):
        there = cupy.asarray(numbers)
        held[device] += there * 3.0 - 1.0
        assert numpy.array_equal(cupy.asnumpy(held[device]), numbers * 3.0 - 1.0), "CuPy and NumPy differ"
        assert numpy.array_equal(cupy.asnumpy(cupy.maximum(there, 0.0)), numpy.maximum(numbers, 0.0)), "they differ"
        whole = cupy.cuda.runtime.memGetInfo()[1] >> 20
        print(f"GPU {device} of {whole} MiB: {SIZE} results equal NumPy's", flush=True)
