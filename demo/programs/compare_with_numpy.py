"""Ordinary CuPy: computes on each GPU and compares with NumPy. Knows nothing of gpuferry."""

import cupy
import numpy

numbers = numpy.linspace(-3.0, 3.0, 1 << 18)
expected = numpy.sqrt(numpy.abs(numbers)) * 2.0 + 1.0
for device in range(cupy.cuda.runtime.getDeviceCount()):
    with cupy.cuda.Device(device):
        result = cupy.sqrt(cupy.abs(cupy.asarray(numbers))) * 2.0 + 1.0
        total = int(cupy.arange(10**6).sum())
        assert numpy.array_equal(cupy.asnumpy(result), expected), "CuPy and NumPy differ"
        assert total == 499999500000, total
        free, whole = cupy.cuda.runtime.memGetInfo()
        print(f"device {device}: {result.size} values equal NumPy's, arange sum {total}, {whole >> 20} MiB in all")
