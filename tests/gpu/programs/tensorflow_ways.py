"""TensorFlow at work: `tensorflow_ways.py eager|function`: single operations, and a graph of them with gradients."""

from __future__ import annotations

import json
import sys
import time

import tensorflow as tf


def eager() -> dict[str, list[float]]:
    x = tf.random.stateless_normal((64, 64), seed=(1, 2))
    ways = {
        "normal": x,
        "sum": tf.reduce_sum(x),
        "softmax": tf.nn.softmax(x),
        "gathered": tf.gather(x, [3, 5, 63]),
        "transposed": tf.transpose(x),
        "cumulated": tf.cumsum(x),
    }
    return {name: [float(value) for value in tf.reshape(result, [-1])[:16]] for name, result in ways.items()}


def function() -> dict[str, list[float]]:
    x = tf.Variable(tf.random.stateless_normal((256,), seed=(3, 4)))

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.sin(x) ** 2 + 0.1 * x**2)
        x.assign_sub(5.0 * tape.gradient(loss, x))
        return loss

    return {"losses": [float(step()) for _ in range(20)]}


def main() -> None:
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    start = time.perf_counter()
    with tf.device("/GPU:0"):
        output = {"eager": eager, "function": function}[sys.argv[1]]()
    print(json.dumps({"output": output, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
