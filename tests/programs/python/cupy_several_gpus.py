"""CuPy on every GPU: arithmetic, a product, a sort and a raw kernel on each, and arrays that move between them."""

import cupy
import numpy as np

rng = np.random.default_rng(3)
count = cupy.cuda.runtime.getDeviceCount()
print("devices", count)
matrix = rng.integers(-8, 9, (60, 60)).astype(np.float32)
values = rng.standard_normal(10_000)
kernel = cupy.RawKernel(
    'extern "C" __global__ void f(double* x, int n) {'
    " int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] = 2 * x[i] + 1; }",
    "f",
)
kept = []
for number in range(count):
    with cupy.cuda.Device(number):
        a = cupy.asarray(matrix)
        x = cupy.asarray(values)
        product = cupy.asnumpy((a[:, :, None] * a[None, :, :]).sum(axis=1) + number)
        kernel((40,), (256,), (x, np.int32(values.size)))
        print(number, np.array_equal(product, matrix @ matrix + number), np.array_equal(x.get(), 2 * values + 1))
        print(number, np.array_equal(cupy.sort(x).get(), np.sort(2 * values + 1)), float(a.sum()))
        kept.append(x)
total = 2 * values + 1
carried = kept[0]
done = cupy.cuda.Event()
done.record()
for number in range(1, count):  # each adds to the sum of the one before, in a stream that waits for its event
    with cupy.cuda.Device(number):
        stream = cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(done)
        with stream:
            carried = cupy.asarray(carried) + kept[number]
            done = stream.record()
        total = total + (2 * values + 1)
        stream.synchronize()
print("carried", np.array_equal(cupy.asnumpy(carried), total), int(carried.device))
with cupy.cuda.Device(0):
    back = cupy.empty_like(kept[0])
    back.data.copy_from_device(kept[-1].data, back.nbytes)
    kept[-1].fill(0)
    print("copied", np.array_equal(back.get(), 2 * values + 1), np.array_equal(kept[-1].get(), values * 0))
