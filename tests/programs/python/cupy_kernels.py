"""CuPy's own kernels: RawKernel, RawModule (constants, C++ templates), ElementwiseKernel, ReductionKernel, fuse."""

import cupy
import numpy as np

SOURCE = r"""
extern "C" {
__constant__ float factors[4];
__device__ int counter = 7;

__global__ void saxpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

__global__ void scaled(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * factors[i % 4];
    if (i == 0) atomicAdd(&counter, 35);
}

__global__ void reversed(const int* in, int* out) {
    extern __shared__ int room[];
    room[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
}
}
"""

TEMPLATES = r"""
template <typename T, int step>
__global__ void strided(const T* in, T* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i * step < n) out[i] = in[i * step] * T(2);
}
"""


def main() -> None:
    n = 1000
    x = cupy.arange(n, dtype=cupy.float32)
    y = cupy.ones(n, dtype=cupy.float32)
    saxpy = cupy.RawKernel(SOURCE, "saxpy")
    saxpy((8,), (128,), (np.float32(3), x, y, np.int32(n)))
    print("saxpy", float(y.sum()), float(y[-1]))

    module = cupy.RawModule(code=SOURCE)
    factors = cupy.ndarray((4,), cupy.float32, module.get_global("factors"))
    factors[...] = cupy.asarray([1, 10, 100, 1000], dtype=cupy.float32)
    module.get_function("scaled")((8,), (128,), (x, y, np.int32(n)))
    print("scaled", [float(v) for v in y[:6]])
    print("counter", int(cupy.ndarray((1,), cupy.int32, module.get_global("counter"))[0]))

    values = cupy.arange(256, dtype=cupy.int32)
    out = cupy.empty_like(values)
    reverse = module.get_function("reversed")
    reverse((4,), (64,), (values, out), shared_mem=64 * 4)
    print("reversed", out[:3].tolist(), out[-3:].tolist(), reverse.max_threads_per_block >= 64)

    names = ["strided<float, 3>", "strided<long long, 2>"]
    templates = cupy.RawModule(code=TEMPLATES, options=("-std=c++14",), name_expressions=names)
    out = cupy.zeros(n, dtype=cupy.float32)
    templates.get_function(names[0])((8,), (128,), (x, out, np.int32(n)))
    print("float template", float(out.sum()))
    wide = cupy.zeros(n, dtype=cupy.int64)
    templates.get_function(names[1])((8,), (128,), (cupy.arange(n), wide, np.int32(n)))
    print("integer template", int(wide.sum()))

    squared = cupy.ElementwiseKernel("T x, T y", "T z", "z = (x - y) * (x - y)", "squared_difference")
    print("element-wise", int(squared(cupy.arange(10), cupy.full(10, 3)).sum()))
    norm = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "squares")
    print("reduction", norm(cupy.arange(100, dtype=cupy.int64).reshape(10, 10), axis=1).tolist())

    @cupy.fuse()
    def fused(a, b):
        return cupy.sqrt(a * a + b * b)

    print("fused", fused(cupy.asarray([3.0, 5.0]), cupy.asarray([4.0, 12.0])).tolist())

    try:
        cupy.RawKernel('extern "C" __global__ void broken( {', "broken")((1,), (1,), ())
    except cupy.cuda.compiler.CompileException as error:
        print("compile error", "error:" in str(error))
    try:
        module.get_function("absent")
    except cupy.cuda.driver.CUDADriverError as error:
        print("absent", str(error).split(":")[0])


main()
