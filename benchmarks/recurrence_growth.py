"""Time and memory of a recurrent train step as a function of the number of steps, for kseq and Keras.

usage: python benchmarks/recurrence_growth.py [--steps 500 1000 2000] [--layers keras.GRU kseq.GRU kseq.MinGRU ...]

Batch 8, 80 features, 256 units. The table gives the median time of a train step in TensorFlow's graph and XLA modes,
which take turns in one process; the time per step of the faster mode relative to the shortest sequence (1 is linear
growth); and, for each mode, the memory that train steps add to the peak of a process of their own.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kseq

BATCH, FEATURES, UNITS = 8, 80, 256
LAYERS = ("keras.LSTM", "kseq.LSTM", "keras.GRU", "kseq.GRU", "kseq.MinGRU", "kseq.MinLSTM", "kseq.RGLRU")


def build(name):
    """Return a built layer: `keras.LSTM` and `kseq.LSTM` name layers, `kseq.MinGRU` a cell in `kseq.layers.RNN`."""
    package, kind = name.split(".")
    layers = {"keras": keras.layers, "kseq": kseq.layers}[package]
    if hasattr(layers, kind):
        layer = getattr(layers, kind)(UNITS, return_sequences=True)
    else:
        layer = kseq.layers.RNN(getattr(kseq.cells, f"{kind}Cell")(UNITS), return_sequences=True)
    layer.build((None, None, FEATURES))
    return layer


def train_step(name, jit_compile):
    layer = build(name)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def function(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, training=True)))
        return tape.gradient(loss, layer.trainable_weights)

    return lambda x: function(x)[0].numpy()


def inputs(steps):
    return tf.constant(np.random.default_rng(0).normal(size=(BATCH, steps, FEATURES)), tf.float32)


def peak_memory(name, mode, steps):
    """Return the MB that compiling and running train steps add to the peak memory of a fresh process."""
    answer = subprocess.run(
        [sys.executable, __file__, "--memory-of", name, mode, str(steps)], capture_output=True, text=True, check=True
    )
    return float(answer.stdout.split()[-1])


def print_memory(name, mode, steps):
    step, x = train_step(name, mode == "xla"), inputs(int(steps))
    train_step(name, mode == "xla")(inputs(2))  # loads libraries and starts thread pools before the measurement
    before = peak()
    for _ in range(3):
        step(x)
    print(peak() - before)


def peak(field="VmHWM"):
    """Return this process's peak memory in MB (`VmRSS`: present memory); that of `resource` could be the parent's."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument("--layers", nargs="*", default=LAYERS)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        return print_memory(*options.memory_of)
    print(f"CPU, {os.cpu_count()} cores, float32, batch {BATCH}, {FEATURES} features, {UNITS} units, median of "
          f"{options.runs} runs; tensorflow {tf.__version__}, keras {keras.__version__}, "
          f"kseq {kseq.__version__}")  # fmt: skip
    print("| layer | steps | graph ms | xla ms | best, per step, against the shortest | graph MB | xla MB |")
    print("|---|---|---|---|---|---|---|")
    functions = {name: {mode: train_step(name, mode == "xla") for mode in ("graph", "xla")} for name in options.layers}
    shortest = {}
    for steps in options.steps:
        x = inputs(steps)
        times = {(name, mode): [] for name in functions for mode in functions[name]}
        for run in range(-2, options.runs):
            for name, mode in times:
                start = time.perf_counter()
                functions[name][mode](x)
                if run >= 0:
                    times[name, mode].append(1e3 * (time.perf_counter() - start))
        for name in functions:
            graph, xla = (float(np.median(times[name, mode])) for mode in ("graph", "xla"))
            per_step = min(graph, xla) / steps
            growth = per_step / shortest.setdefault(name, per_step)
            memory = [f"{peak_memory(name, mode, steps):.0f}" for mode in ("graph", "xla")]
            print(f"| {name} | {steps} | {graph:.1f} | {xla:.1f} | {growth:.2f} | {' | '.join(memory)} |", flush=True)
    return None


if __name__ == "__main__":
    main()
