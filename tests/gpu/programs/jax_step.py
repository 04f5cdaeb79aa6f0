"""A jitted JAX step with gradients."""

from __future__ import annotations

import json
import time

import jax
import jax.numpy as jnp


def loss(weights, x):
    return jnp.mean(jnp.tanh(x @ weights) ** 2)


def main() -> None:
    step = jax.jit(lambda w, x: w - 0.1 * jax.grad(loss)(w, x))
    weights, x = jax.random.normal(jax.random.key(1), (256, 64)), jax.random.normal(jax.random.key(2), (128, 256))
    start = time.perf_counter()
    for _ in range(50):
        weights = step(weights, x)
    total = float(jnp.abs(weights).sum())
    print(json.dumps({"output": {"sum": total}, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
