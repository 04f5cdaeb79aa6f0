"""cuBLAS, cuFFT, cuSOLVER, cuSPARSE and cuRAND through CuPy, checked against NumPy where that is cheap."""

from __future__ import annotations

import json
import time

import cupy
import cupyx.scipy.sparse
import numpy as np


def main() -> None:
    dice = np.random.default_rng(3)
    a, b = dice.standard_normal((512, 512)), dice.standard_normal((512, 512))
    start = time.perf_counter()
    product = cupy.asnumpy(cupy.asarray(a) @ cupy.asarray(b))
    spectrum = cupy.asnumpy(cupy.fft.fft(cupy.asarray(a[0])))
    values = cupy.asnumpy(cupy.linalg.eigvalsh(cupy.asarray(a + a.T)))
    sparse = cupyx.scipy.sparse.csr_matrix(cupy.asarray(np.where(np.abs(a) > 2, a, 0)))
    applied = cupy.asnumpy(sparse @ cupy.asarray(b[0]))
    numbers = cupy.random.Generator(cupy.random.XORWOW(seed=1)).random(5)
    seconds = time.perf_counter() - start
    right = [
        np.allclose(product, a @ b),
        np.allclose(spectrum, np.fft.fft(a[0])),
        np.allclose(values, np.linalg.eigvalsh(a + a.T)),
        np.allclose(applied, np.where(np.abs(a) > 2, a, 0) @ b[0]),
    ]
    sums = [float(product.sum()), float(abs(spectrum).sum()), float(values.sum()), float(applied.sum())]
    print(
        json.dumps(
            {"output": {"right": list(map(bool, right)), "sums": sums, "random": numbers.tolist()}, "seconds": seconds}
        )
    )


if __name__ == "__main__":
    main()
