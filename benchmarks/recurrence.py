"""How fast is a recurrent layer? kseq against Keras (graph and XLA) and PyTorch, forward and train step.

usage: python benchmarks/recurrence.py [--runs 15] [--shapes 64x100x256x512 ...]

Every contender runs in turn in each round, in one process, on the same input; the table gives medians in milliseconds
and, in brackets, half the spread between the quartiles. "best Keras" is the faster of its graph and XLA modes.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch

import kseq

SHAPES = ((64, 100, 256, 512), (32, 50, 128, 256), (16, 400, 64, 128), (1, 50, 128, 256))


def keras_forward(layer, jit_compile):
    function = tf.function(lambda x: layer(x, training=False), jit_compile=jit_compile)
    return lambda x: function(x).numpy()


def keras_train(layer, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def function(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, training=True)))
        return tape.gradient(loss, layer.trainable_weights)

    return lambda x: function(x)[0].numpy()


def torch_forward(layer):
    def function(x):
        with torch.no_grad():
            return layer(x)[0].numpy()

    return function


def torch_train(layer):
    def function(x):
        layer.zero_grad(set_to_none=True)
        layer(x)[0].square().mean().backward()
        return layer.weight_ih_l0.grad.numpy()

    return function


def contenders(kind, shape):
    """Name -> (forward, train), the same weights' shapes in all."""
    _, _, features, units = shape
    ours = getattr(kseq.layers, kind)(units, return_sequences=True)
    theirs = getattr(keras.layers, kind)(units, return_sequences=True)
    for layer in (ours, theirs):
        layer.build((None, None, features))
    rival = getattr(torch.nn, kind)(features, units, batch_first=True)
    made = {"torch": (torch_forward(rival), torch_train(rival))}
    for name, layer in (("keras", theirs), ("kseq", ours)):
        for mode, jit_compile in (("graph", False), ("xla", True)):
            made[f"{name} {mode}"] = (keras_forward(layer, jit_compile), keras_train(layer, jit_compile))
    return made


def measure(functions, inputs, runs):
    """Milliseconds of each function, `{name: [run, ...]}`; two unmeasured calls compile and warm up."""
    times = {name: [] for name in functions}
    for run in range(-2, runs):
        for name, function in functions.items():
            x = torch.from_numpy(inputs) if name == "torch" else tf.constant(inputs)
            start = time.perf_counter()
            function(x)
            if run >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--shapes", nargs="*", default=["x".join(map(str, shape)) for shape in SHAPES])
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, "
          f"keras {keras.__version__}, torch {torch.__version__}, kseq {kseq.__version__}")  # fmt: skip
    print("| layer | batch, steps, input, units | pass | keras graph | keras xla | torch | kseq graph | kseq xla "
          "| best Keras / best kseq | torch / best kseq |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in ("LSTM", "GRU"):
        for shape in (tuple(map(int, text.split("x"))) for text in options.shapes):
            inputs = np.random.default_rng(0).normal(size=shape[:3]).astype("float32")
            made = contenders(kind, shape)
            for index, label in enumerate(("forward", "train")):
                times = measure({name: pair[index] for name, pair in made.items()}, inputs, options.runs)
                median = {name: np.median(runs) for name, runs in times.items()}
                spread = {name: np.subtract(*np.percentile(runs, [75, 25])) / 2 for name, runs in times.items()}
                best = min(median["kseq graph"], median["kseq xla"])
                cells = " | ".join(
                    f"{median[name]:.1f} ({spread[name]:.1f})"
                    for name in ("keras graph", "keras xla", "torch", "kseq graph", "kseq xla")
                )
                ratio = min(median["keras graph"], median["keras xla"]) / best
                print(
                    f"| {kind} | {shape} | {label} | {cells} | {ratio:.2f} | {median['torch'] / best:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
