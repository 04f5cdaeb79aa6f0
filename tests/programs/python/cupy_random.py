"""cupy.random: the legacy generators (cuRAND) and the new ones; the same seed gives the same numbers."""

import cupy


def moments(name: str, values: cupy.ndarray) -> None:
    print(name, values.size, float(values.mean()), float(values.std()), float(values.min()), float(values.max()))


cupy.random.seed(42)
first = cupy.random.random(20_000)
moments("random", first)
moments("normal", cupy.random.standard_normal(20_000))
moments("randint", cupy.random.randint(-5, 6, 20_000))
moments("exponential", cupy.random.exponential(2.0, 20_000))
moments("poisson", cupy.random.poisson(4.0, 20_000))
cupy.random.seed(42)
print("same", bool((cupy.random.random(20_000) == first).all()))
print("different", bool((cupy.random.random(20_000) != first).any()))
shuffled = cupy.random.permutation(1000)
print("permutation", cupy.sort(shuffled).tolist() == list(range(1000)), shuffled.tolist() != list(range(1000)))

generator = cupy.random.default_rng(7)
moments("generator random", generator.random(20_000))
moments("generator normal", generator.standard_normal(20_000))
moments("generator integers", generator.integers(0, 100, 20_000))
again = cupy.random.default_rng(7)
print("generator same", bool((again.random(100) == cupy.random.default_rng(7).random(100)).all()))
