"""Which calls of NVIDIA's maths libraries work on the software GPU: through CuPy, compared with NumPy and SciPy.

    python -m tests.long.math_libraries [--python INTERPRETER] [--compute-capability X.Y] [library ...]

Not part of `make test`: the wheels are hundreds of MiB. INTERPRETER has CuPy and, besides what the tests install,
`nvidia-cublas nvidia-cufft nvidia-cusparse nvidia-cusolver`. Prints a Markdown table; docs/softgpu.md has the outcome.
A call that fails may have spoilt its context: the ones after it run in a new process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 300  # seconds a call
CALLS: dict[str, dict[str, Callable[[], None]]] = {}


def call(library: str, name: str) -> Callable[[Callable[[], None]], None]:
    """Registers the decorated function as the call `name` of `library`."""

    def register(function: Callable[[], None]) -> None:
        CALLS.setdefault(library, {})[name] = function

    return register


def random_array(*shape: int, dtype: str = "float32", seed: int = 1) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * np.random.default_rng(seed + 1).standard_normal(shape)
    return values.astype(dtype)


def close(actual: object, expected: np.ndarray, tolerance: float = 2e-4) -> None:
    import cupy

    got = cupy.asnumpy(actual)
    assert got.shape == expected.shape, f"shape {got.shape}, not {expected.shape}"
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    difference = float(np.max(np.abs(got - expected), initial=0)) / scale
    assert difference <= tolerance, f"wrong result: off by {difference:.2g}"


def fft_calls() -> None:
    """cuFFT: transforms of several sizes, ranks and types."""
    transforms = [(64,), (1024,), (1000,), (1009,), (65536,), (32, 48), (8, 16, 20)]
    for shape in transforms:
        size = "x".join(map(str, shape))
        for dtype in ("complex64", "complex128"):

            @call("cuFFT", f"fftn {size} {dtype}")
            def _(shape: tuple[int, ...] = shape, dtype: str = dtype) -> None:
                import cupy

                data = random_array(*shape, dtype=dtype)
                close(cupy.fft.fftn(cupy.asarray(data)), np.fft.fftn(data))

    @call("cuFFT", "rfft 1024 float32")
    def _() -> None:
        import cupy

        data = random_array(1024)
        close(cupy.fft.rfft(cupy.asarray(data)), np.fft.rfft(data))

    @call("cuFFT", "irfft 1024 float64")
    def _() -> None:
        import cupy

        data = random_array(513, dtype="complex128")
        close(cupy.fft.irfft(cupy.asarray(data)), np.fft.irfft(data))

    @call("cuFFT", "fft of 16 rows of 256")
    def _() -> None:
        import cupy

        data = random_array(16, 256, dtype="complex64")
        close(cupy.fft.fft(cupy.asarray(data), axis=1), np.fft.fft(data, axis=1))


def blas_calls() -> None:
    """cuBLAS: levels 1 to 3, batched, in the four ordinary types and half."""
    for dtype in ("float32", "float64", "complex64", "complex128"):

        @call("cuBLAS", f"dot of vectors {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a, b = random_array(1000, dtype=dtype), random_array(1000, dtype=dtype, seed=3)
            close(cupy.dot(cupy.asarray(a), cupy.asarray(b)), np.dot(a, b))

        @call("cuBLAS", f"matrix by vector {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a, b = random_array(100, 70, dtype=dtype), random_array(70, dtype=dtype, seed=3)
            close(cupy.asarray(a) @ cupy.asarray(b), a @ b)

        for n in (4, 64, 257):

            @call("cuBLAS", f"matmul {n} {dtype}")
            def _(dtype: str = dtype, n: int = n) -> None:
                import cupy

                a, b = random_array(n, n, dtype=dtype), random_array(n, n, dtype=dtype, seed=3)
                close(cupy.asarray(a) @ cupy.asarray(b), a @ b)

        @call("cuBLAS", f"batched matmul 8x16x16 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a, b = random_array(8, 16, 16, dtype=dtype), random_array(8, 16, 16, dtype=dtype, seed=3)
            close(cupy.asarray(a) @ cupy.asarray(b), a @ b)

    @call("cuBLAS", "matmul 64 float16")
    def _() -> None:
        import cupy

        a, b = random_array(64, 64, dtype="float16"), random_array(64, 64, dtype="float16", seed=3)
        close(cupy.asarray(a) @ cupy.asarray(b), a.astype("float32") @ b.astype("float32"), 2e-2)

    @call("cuBLAS", "level 1: axpy, scal, nrm2, asum, iamax")
    def _() -> None:
        import cupy
        from cupy import cublas

        x, y = random_array(500), random_array(500, seed=3)
        gx, gy = cupy.asarray(x), cupy.asarray(y)
        cublas.axpy(2.0, gx, gy)
        close(gy, 2 * x + y)
        cublas.scal(3.0, gy)
        close(gy, 3 * (2 * x + y))
        close(cublas.nrm2(gx), np.asarray(np.linalg.norm(x)))
        close(cublas.asum(gx), np.asarray(np.abs(x).sum()))
        assert int(cublas.iamax(gx)) == int(np.argmax(np.abs(x))) + 1

    @call("cuBLAS", "ger, syrk, dgmm, geam")
    def _() -> None:
        import cupy
        from cupy import cublas

        x, y, a = random_array(40), random_array(30, seed=3), np.asfortranarray(random_array(40, 30, seed=4))
        ga = cupy.asarray(a, order="F")
        cublas.ger(1.5, cupy.asarray(x), cupy.asarray(y), ga)
        close(ga, a + 1.5 * np.outer(x, y))
        close(cublas.dgmm("L", cupy.asarray(a, order="F"), cupy.asarray(x)), np.diag(x) @ a)
        close(cublas.geam("N", "N", 2.0, cupy.asarray(a, order="F"), 3.0, cupy.asarray(a, order="F")), 5 * a)
        close(np.tril(cupy.asnumpy(cublas.syrk("N", cupy.asarray(a, order="F"), lower=True))), np.tril(a @ a.T))

    @call("cuBLAS", "triangular solve")
    def _() -> None:
        import cupy
        import cupyx.scipy.linalg as solve

        a = np.tril(random_array(32, 32)) + 8 * np.eye(32, dtype="float32")
        b = random_array(32, 5, seed=3)
        close(solve.solve_triangular(cupy.asarray(a), cupy.asarray(b), lower=True), np.linalg.solve(a, b))


def solver_calls() -> None:
    """cuSOLVER: factorisations, solves and eigenvalues."""
    for dtype in ("float32", "float64", "complex128"):

        @call("cuSOLVER", f"solve 48 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a = random_array(48, 48, dtype=dtype) + 20 * np.eye(48, dtype=dtype)
            b = random_array(48, 3, dtype=dtype, seed=3)
            close(cupy.linalg.solve(cupy.asarray(a), cupy.asarray(b)), np.linalg.solve(a, b))

        @call("cuSOLVER", f"inv 48 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a = random_array(48, 48, dtype=dtype) + 20 * np.eye(48, dtype=dtype)
            close(cupy.linalg.inv(cupy.asarray(a)), np.linalg.inv(a))

        @call("cuSOLVER", f"det 24 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a = random_array(24, 24, dtype=dtype)
            close(cupy.linalg.det(cupy.asarray(a)), np.asarray(np.linalg.det(a)), 2e-3)

        @call("cuSOLVER", f"cholesky 48 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            m = random_array(48, 48, dtype=dtype)
            a = m @ m.conj().T + 48 * np.eye(48, dtype=dtype)
            close(cupy.linalg.cholesky(cupy.asarray(a)), np.linalg.cholesky(a))

        @call("cuSOLVER", f"qr 40x24 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a = random_array(40, 24, dtype=dtype)
            q, r = cupy.linalg.qr(cupy.asarray(a))
            close(cupy.asnumpy(q) @ cupy.asnumpy(r), a)

        @call("cuSOLVER", f"svd 40x24 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            a = random_array(40, 24, dtype=dtype)
            close(cupy.linalg.svd(cupy.asarray(a), compute_uv=False), np.linalg.svd(a, compute_uv=False))

        @call("cuSOLVER", f"eigh 32 {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            m = random_array(32, 32, dtype=dtype)
            a = m + m.conj().T
            close(cupy.linalg.eigh(cupy.asarray(a))[0], np.linalg.eigvalsh(a))

    @call("cuSOLVER", "lstsq 40x8 float64")
    def _() -> None:
        import cupy

        a, b = random_array(40, 8, dtype="float64"), random_array(40, dtype="float64", seed=3)
        close(cupy.linalg.lstsq(cupy.asarray(a), cupy.asarray(b))[0], np.linalg.lstsq(a, b, rcond=None)[0])

    @call("cuSOLVER", "batched inv 6x8x8 float32")
    def _() -> None:
        import cupy

        a = random_array(6, 8, 8) + 8 * np.eye(8, dtype="float32")
        close(cupy.linalg.inv(cupy.asarray(a)), np.linalg.inv(a))


def sparse_calls() -> None:
    """cuSPARSE: conversions and products."""
    import scipy.sparse as reference

    for dtype in ("float32", "float64", "complex128"):
        matrix = reference.random(60, 50, density=0.1, format="csr", random_state=1).astype(dtype)

        @call("cuSPARSE", f"csr by vector {dtype}")
        def _(dtype: str = dtype, matrix: reference.csr_matrix = matrix) -> None:
            import cupy
            from cupyx.scipy import sparse

            x = random_array(50, dtype=dtype)
            close(sparse.csr_matrix(matrix) @ cupy.asarray(x), matrix @ x)

        @call("cuSPARSE", f"csr by dense matrix {dtype}")
        def _(dtype: str = dtype, matrix: reference.csr_matrix = matrix) -> None:
            import cupy
            from cupyx.scipy import sparse

            x = random_array(50, 8, dtype=dtype)
            close(sparse.csr_matrix(matrix) @ cupy.asarray(x), matrix @ x)

        @call("cuSPARSE", f"csr by csr {dtype}")
        def _(dtype: str = dtype, matrix: reference.csr_matrix = matrix) -> None:
            from cupyx.scipy import sparse

            a = sparse.csr_matrix(matrix)
            close((a @ a.T.tocsr()).toarray(), (matrix @ matrix.T).toarray())

        @call("cuSPARSE", f"csr plus csr {dtype}")
        def _(dtype: str = dtype, matrix: reference.csr_matrix = matrix) -> None:
            from cupyx.scipy import sparse

            a = sparse.csr_matrix(matrix)
            close((a + 2 * a).toarray(), 3 * matrix.toarray())

        @call("cuSPARSE", f"csr to csc, coo and dense {dtype}")
        def _(dtype: str = dtype, matrix: reference.csr_matrix = matrix) -> None:
            from cupyx.scipy import sparse

            a = sparse.csr_matrix(matrix)
            close(a.tocsc().toarray(), matrix.toarray())
            close(a.tocoo().tocsr().toarray(), matrix.toarray())

    @call("cuSPARSE", "triangular solve float64")
    def _() -> None:
        import cupy
        import cupyx.scipy.sparse.linalg as solve
        from cupyx.scipy import sparse

        a = reference.tril(reference.random(40, 40, density=0.2, random_state=2) + 8 * reference.eye(40)).tocsr()
        b = random_array(40, dtype="float64")
        close(solve.spsolve_triangular(sparse.csr_matrix(a), cupy.asarray(b)), np.linalg.solve(a.toarray(), b))

    @call("cuSPARSE", "conjugate gradient float64")
    def _() -> None:
        import cupy
        import cupyx.scipy.sparse.linalg as solve
        from cupyx.scipy import sparse

        a = (reference.eye(64) * 4 - reference.eye(64, k=1) - reference.eye(64, k=-1)).tocsr()
        b = random_array(64, dtype="float64")
        x, status = solve.cg(sparse.csr_matrix(a), cupy.asarray(b), rtol=1e-10)
        assert status == 0
        close(x, np.linalg.solve(a.toarray(), b))


def rand_calls() -> None:
    """cuRAND: every generator kind that CuPy offers, by the moments of what it gives."""
    generators = {
        "XORWOW": lambda rng: rng.XORWOW(seed=7),
        "MRG32k3a": lambda rng: rng.MRG32k3a(seed=7),
        "Philox4x3210": lambda rng: rng.Philox4x3210(seed=7),
    }
    for name, make in generators.items():

        @call("cuRAND", f"Generator({name})")
        def _(make: Callable[..., object] = make) -> None:
            import cupy

            values = cupy.asnumpy(cupy.random.Generator(make(cupy.random)).random(50_000))
            assert abs(values.mean() - 0.5) < 0.01
            assert abs(values.var() - 1 / 12) < 0.01

    distributions: dict[str, tuple[Callable[..., object], float, float]] = {
        "uniform": (lambda random: random.uniform(2, 4, 50_000), 3, 4 / 12),
        "rand float32": (lambda random: random.rand(50_000, dtype="float32"), 0.5, 1 / 12),
        "normal": (lambda random: random.normal(1, 2, 50_000), 1, 4),
        "standard_normal float32": (lambda random: random.standard_normal(50_000, dtype="float32"), 0, 1),
        "randint": (lambda random: random.randint(0, 10, 50_000), 4.5, 99 / 12),
        "lognormal": (lambda random: random.lognormal(0, 0.5, 50_000), 1.1331, 0.3647),
        "exponential": (lambda random: random.exponential(2, 50_000), 2, 4),
        "poisson": (lambda random: random.poisson(4, 50_000), 4, 4),
        "binomial": (lambda random: random.binomial(10, 0.5, 50_000), 5, 2.5),
        "gamma": (lambda random: random.gamma(3, 1, 50_000), 3, 3),
    }
    for name, (draw, mean, variance) in distributions.items():

        @call("cuRAND", name)
        def _(draw: Callable[..., object] = draw, mean: float = mean, variance: float = variance) -> None:
            import cupy

            cupy.random.seed(5)
            values = cupy.asnumpy(draw(cupy.random)).astype("float64")
            assert abs(values.mean() - mean) < 0.05 * max(1, variance), f"mean {values.mean()}"
            assert abs(values.var() - variance) < 0.1 * max(0.2, variance), f"variance {values.var()}"

    @call("cuRAND", "permutation and choice")
    def _() -> None:
        import cupy

        assert sorted(cupy.asnumpy(cupy.random.permutation(1000)).tolist()) == list(range(1000))
        assert set(cupy.asnumpy(cupy.random.choice(5, 1000)).tolist()) == set(range(5))


def thrust_calls() -> None:
    """Thrust and CUB as they are inside CuPy."""
    for dtype in ("int32", "int64", "uint8", "float16", "float32", "float64"):

        @call("Thrust, CUB", f"sort and argsort {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            data = (np.random.default_rng(2).integers(0, 200, 5000) - (0 if dtype == "uint8" else 100)).astype(dtype)
            assert (cupy.asnumpy(cupy.sort(cupy.asarray(data))) == np.sort(data)).all()
            assert (data[cupy.asnumpy(cupy.argsort(cupy.asarray(data)))] == np.sort(data)).all()

        @call("Thrust, CUB", f"cumsum, sum, max {dtype}")
        def _(dtype: str = dtype) -> None:
            import cupy

            data = np.random.default_rng(2).integers(0, 3, 300).astype(dtype)
            close(cupy.cumsum(cupy.asarray(data)), np.cumsum(data))
            close(cupy.sum(cupy.asarray(data)), np.asarray(np.sum(data)))
            close(cupy.max(cupy.asarray(data)), np.asarray(np.max(data)))

    @call("Thrust, CUB", "lexsort, unique, partition, histogram, searchsorted")
    def _() -> None:
        import cupy

        a, b = np.random.default_rng(2).integers(0, 50, (2, 2000))
        ga, gb = cupy.asarray(a), cupy.asarray(b)
        assert (cupy.asnumpy(cupy.lexsort(cupy.stack([ga, gb]))) == np.lexsort((a, b))).all()
        assert (cupy.asnumpy(cupy.unique(ga)) == np.unique(a)).all()
        assert int(cupy.partition(ga, 100)[100]) == int(np.partition(a, 100)[100])
        assert (cupy.asnumpy(cupy.histogram(ga, 10)[0]) == np.histogram(a, 10)[0]).all()
        assert (cupy.asnumpy(cupy.searchsorted(cupy.sort(ga), gb)) == np.searchsorted(np.sort(a), b)).all()

    @call("Thrust, CUB", "sort along an axis, nonzero, argmax, cumprod")
    def _() -> None:
        import cupy

        a = np.random.default_rng(2).integers(0, 50, (30, 40))
        ga = cupy.asarray(a)
        assert (cupy.asnumpy(cupy.sort(ga, axis=0)) == np.sort(a, axis=0)).all()
        assert (cupy.asnumpy(cupy.nonzero(ga > 25)[0]) == np.nonzero(a > 25)[0]).all()
        assert (cupy.asnumpy(cupy.argmax(ga, axis=1)) == np.argmax(a, axis=1)).all()
        close(cupy.cumprod(cupy.asarray([1.0, 2.0, 3.0])), np.cumprod([1.0, 2.0, 3.0]))


def register_all() -> None:
    for register in (rand_calls, thrust_calls, fft_calls, blas_calls, sparse_calls, solver_calls):
        register()


def run_here(library: str, first: int) -> None:
    """Run the library's calls from `first` on, one line of JSON each; ends after the first that fails."""
    for name, function in list(CALLS[library].items())[first:]:
        started, outcome = time.monotonic(), "works"
        print(json.dumps({"begin": name}), flush=True)
        try:
            function()
        except Exception as error:
            lines = f"{type(error).__name__}: {error}".strip().splitlines()
            outcome = lines[0][:300]
        print(json.dumps({"call": name, "outcome": outcome, "seconds": time.monotonic() - started}), flush=True)
        if outcome != "works":
            return


def run_library(library: str, interpreter: str, options: list[str]) -> list[tuple[str, str, float, str]]:
    """(call, outcome, seconds, what the software GPU logged), for every call."""
    names, rows = list(CALLS[library]), []
    exec_options = [sys.executable, "-m", "clientagent.command", "softgpu", "exec", *options, "--"]
    while len(rows) < len(names):
        command = [*exec_options, interpreter, "-m", "tests.long.math_libraries", "--here", library, str(len(rows))]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
            output, errors, end = done.stdout, done.stderr, f"process ended with {done.returncode}"
        except subprocess.TimeoutExpired as expired:
            output, errors = (expired.stdout or b"").decode(), (expired.stderr or b"").decode()
            end = f"not done after {TIME_LIMIT} s"
        said = [line for line in errors.splitlines() if line.startswith("gpuferry")]
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        reported = [line for line in lines if "call" in line]
        for line in reported:
            failed = line["outcome"] != "works"
            rows.append((line["call"], line["outcome"], line["seconds"], said[-1] if said and failed else ""))
        if (not reported or reported[-1]["outcome"] == "works") and len(rows) < len(names):
            rows.append((names[len(rows)], end, 0.0, (said or errors.splitlines() or [""])[-1]))
        print(f"{library}: {len(rows)} of {len(names)}", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.math_libraries", description=__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--compute-capability")
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("libraries", nargs="*")
    arguments = parser.parse_args()
    register_all()
    if arguments.here:
        run_here(arguments.here[0], int(arguments.here[1]))
        return 0
    options = ["--compute-capability", arguments.compute_capability] if arguments.compute_capability else []
    print("| library | call | outcome | the software GPU's log |\n|---|---|---|---|")
    for library in arguments.libraries or CALLS:
        for name, outcome, _, log in run_library(library, arguments.python, options):
            print(f"| {library} | {name} | {outcome.replace('|', '/')} | {log.replace('|', '/')} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
