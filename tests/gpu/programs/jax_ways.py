"""JAX at work: `jax_ways.py numerics|fourier|training|two|memory [small]`.

`numerics`: one of nearly everything, `fourier`: transforms, `training`: a network with donated parameters,
`two`: two GPUs, `memory`: out of memory is an error that JAX survives, and freed memory comes back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

SMALL = "small" in sys.argv[2:]
SIDE = 32 if SMALL else 512
Numbers = dict[str, list[float]]


def flat(value: object) -> list[float]:
    """All numbers of an array, or their sums in pieces where they are many."""
    numbers = np.asarray(value).astype(np.float64).ravel()
    return [float(piece.sum()) for piece in np.array_split(numbers, min(len(numbers), 16))]


def numerics() -> Numbers:
    keys = jax.random.split(jax.random.key(5), 4)
    a, b = (jax.random.normal(key, (SIDE, SIDE)) for key in keys[:2])
    positive = a @ a.T + SIDE * jnp.eye(SIDE)
    few = jnp.arange(50.0)
    half = a.astype(jnp.float16)
    image = jax.random.normal(keys[2], (2, 3, 12, 12))
    filters = jax.random.normal(keys[3], (4, 3, 3, 3))

    def seen(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda y: sys.stderr.write(f"called back with {float(y)}\n"), x.sum())
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1

    ways: dict[str, Callable[[], object]] = {
        "sum": (a * 2 + 1).sum,
        "uniform": lambda: jax.random.uniform(keys[0], (100,)),
        "permutation": lambda: jax.random.permutation(keys[1], 100),
        "matmul": lambda: a @ b,
        "matmul float16": lambda: half @ half,
        "matmul bfloat16": lambda: a.astype(jnp.bfloat16) @ b.astype(jnp.bfloat16),
        "batches": lambda: jnp.einsum("bij,bjk->bik", jnp.stack([a, b]), jnp.stack([b, a])),
        "gradient": lambda: jax.jit(jax.grad(lambda w: jnp.mean(jnp.tanh(a @ w) ** 2)))(b),
        "vmap": lambda: jax.vmap(jnp.dot)(a, b),
        "scan": lambda: jax.lax.scan(lambda carry, x: (carry * 0.9 + x, carry), 0.0, few)[1],
        "while": lambda: jax.lax.while_loop(lambda at: at[0] < 10, lambda at: (at[0] + 1, at[1] * 1.5), (0, few))[1],
        "cond": lambda: jax.jit(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(0.5),
        "sort": lambda: jnp.sort(a.ravel()),
        "cumulated": lambda: jnp.cumsum(few),
        "gather": lambda: jnp.take(few, jnp.array([5, 7, 49])),
        "scatter": lambda: jnp.zeros(10).at[jnp.array([1, 1, 3])].add(1.0),
        "softmax": lambda: jax.nn.softmax(a),
        "convolution": lambda: jax.lax.conv(image, filters, (1, 1), "SAME"),
        "cholesky": lambda: jnp.linalg.cholesky(positive),
        "solve": lambda: jnp.linalg.solve(positive, few[:1].repeat(SIDE)),
        "eigenvalues": lambda: jnp.linalg.eigvalsh(positive),
        "qr": lambda: jnp.abs(jnp.linalg.qr(a)[1]),
        "singular values": lambda: jnp.linalg.svd(a, compute_uv=False),
        "callbacks": lambda: jax.jit(seen)(few),
    }
    return {name: flat(way()) for name, way in ways.items()}


def fourier() -> Numbers:
    """Transforms of one and two dimensions, by cuFFT."""
    x = jax.random.normal(jax.random.key(2), (SIDE, SIDE))
    return {"fft": flat(jnp.abs(jnp.fft.fft(x.ravel()))), "rfft2": flat(jnp.abs(jnp.fft.rfft2(x)))}


def training() -> Numbers:
    """A network of two layers; parameters and momentum are donated to each step."""
    keys = jax.random.split(jax.random.key(3), 3)
    x = jax.random.normal(keys[0], (64, SIDE))
    y = jnp.sin(x.sum(axis=1, keepdims=True))
    weights = [jax.random.normal(keys[1], (SIDE, SIDE)) / SIDE**0.5, jax.random.normal(keys[2], (SIDE, 1)) / SIDE**0.5]
    state = (weights, [jnp.zeros_like(weight) for weight in weights])

    def loss_of(weights: list[jax.Array]) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ weights[0]) @ weights[1] - y) ** 2)

    def step(state: tuple[list[jax.Array], list[jax.Array]]) -> tuple[object, jax.Array]:
        weights, momentum = state
        loss, gradients = jax.value_and_grad(loss_of)(weights)
        momentum = [0.9 * m + g for m, g in zip(momentum, gradients, strict=True)]
        return ([w - 0.05 * m for w, m in zip(weights, momentum, strict=True)], momentum), loss

    jitted = jax.jit(step, donate_argnums=0)
    losses = []
    for _ in range(20 if SMALL else 200):
        state, loss = jitted(state)
        losses.append(float(loss))
    return {"losses": losses, "weights": flat(state[0][0])}


def two() -> Numbers:
    """Two GPUs: copies between them, a sharded computation, sums over both."""
    mesh = jax.make_mesh((2,), ("gpu",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("gpu"))
    first, second = jax.devices()[:2]
    x = jax.random.normal(jax.random.key(1), (4, SIDE))
    over = jax.device_put(jax.device_put(x, first) * 2, second) + 1
    sharded = jax.jit(lambda y: jnp.tanh(y) * 2)(jax.device_put(x, spread))
    return {"devices": [float(jax.device_count())], "copied": flat(over), "sharded": flat(sharded)}


def memory() -> Numbers:
    """More than the GPU has, again and again, with work between."""
    stats = jax.devices()[0].memory_stats()
    refused = 0.0
    for _ in range(1 if SMALL else 3):  # XLA tries for ten seconds before it gives up
        try:
            jnp.zeros(stats["bytes_limit"], dtype=jnp.float32).block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            refused += "RESOURCE_EXHAUSTED" in str(error)
        held = [jnp.full((1 << 20,), 2.0) for _ in range(8)]
        del held
    return {"refused": [refused], "sum": flat(jnp.ones(1000).sum()), "limit": [float(stats["bytes_limit"])]}


def main() -> None:
    start = time.perf_counter()
    output = {"numerics": numerics, "fourier": fourier, "training": training, "two": two, "memory": memory}[
        sys.argv[1]
    ]()
    print(json.dumps({"output": output, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
