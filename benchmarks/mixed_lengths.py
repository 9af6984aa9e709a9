"""Training on batches of many shapes: seconds, memory and XLA compilations, for kseq and Keras.

usage: python benchmarks/mixed_lengths.py [--contenders kseq-auto kseq-False kseq-True keras-False keras-True]
       [--shapes 200] [--batches 300] [--limit 180]

An embedding, a bidirectional LSTM of 128 units and a Dense of 20, on batches of 3 to 32 rows and 5 to 200 steps. Every
second shape has rows of unequal lengths, which are masked; the others go through the same layers without a mask. Each
contender is a package and the `jit_compile` of `compile`, in a fresh process, on the same batches in the same order.

- batches: how many were trained on before --limit seconds were over, checked between batches.
- seconds: in all, with tracing and compilation; slowest: of one train step; second half: the median step in ms of the
  second half of the batches, where new and known shapes alternate.
- MB: growth of the process's memory (RSS) from before the first step to after the last.
- compilations: programs that XLA has compiled, see `xla_compilations.py`.
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from recurrence_growth import peak
from xla_compilations import xla_compilations

import kseq

CONTENDERS = ("kseq-auto", "kseq-False", "kseq-True", "keras-False", "keras-True")
SETTINGS = {"auto": "auto", "False": False, "True": True}
VOCABULARY, TAGS = 1000, 20


def draw_shapes(shapes, batches):
    """Return `(rows, steps, masked)` of each batch: every shape once and some again, in random order."""
    random, seen = np.random.default_rng(0), []
    while len(seen) < shapes:
        shape = int(random.integers(3, 33)), int(random.integers(5, 201)), len(seen) % 2 == 0
        if shape not in seen:
            seen.append(shape)
    again = [seen[index] for index in random.integers(0, shapes, size=max(batches - shapes, 0))]
    drawn = (seen + again)[:batches]
    return [drawn[index] for index in random.permutation(len(drawn))]


def draw_batch(random, rows, steps, masked):
    """Return token ids, 0 in the padding, and their tags."""
    tokens = random.integers(1, VOCABULARY, size=(rows, steps)).astype("int32")
    if masked:
        lengths = random.integers(1, steps + 1, size=rows)
        lengths[0] = steps
        tokens = np.where(np.arange(steps) < lengths[:, None], tokens, 0).astype("int32")
    return tokens, tokens % TAGS


def models_of(package, setting):
    """Return the model with a mask and the one without, `{masked: model}`, which share recurrent layer and Dense."""
    layers = {"keras": keras.layers, "kseq": kseq.layers}[package]
    shared = [layers.Bidirectional(layers.LSTM(128, return_sequences=True)), keras.layers.Dense(TAGS)]
    models = {}
    for masked in (True, False):
        embedding = keras.layers.Embedding(VOCABULARY, 64, mask_zero=masked)
        models[masked] = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, *shared])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        models[masked].compile("adam", loss, metrics=[], jit_compile=SETTINGS[setting])
    return models


def steps_of(model, shapes):
    """Return a function that trains on the next of the batches, as `fit` on a dataset of unknown shapes does."""
    random = np.random.default_rng(1)
    spec = tf.TensorSpec((None, None), "int32")
    dataset = tf.data.Dataset.from_generator(
        lambda: (draw_batch(random, *shape) for shape in shapes), output_signature=(spec, spec)
    )
    iterator = iter(dataset)
    model.make_train_function()
    return lambda: float(model.train_function(iterator)["loss"])


def measure(contender, shapes, limit):
    """Print the measurements as JSON."""
    models = models_of(*contender.split("-"))
    train = {masked: steps_of(model, [s for s in shapes if s[2] == masked]) for masked, model in models.items()}
    before, compiled, seconds = peak("VmRSS"), xla_compilations(), []
    for _, _, masked in shapes:
        start = time.perf_counter()
        loss = train[masked]()
        seconds.append(time.perf_counter() - start)
        if not np.isfinite(loss):
            raise RuntimeError(f"{contender}: the loss is {loss}.")
        if sum(seconds) > limit:
            break
    late = float(np.median(seconds[len(shapes) // 2 :])) if len(seconds) > len(shapes) // 2 else float("nan")
    grown, compiled = peak("VmRSS") - before, xla_compilations() - compiled
    print(json.dumps([len(seconds), sum(seconds), max(seconds), 1e3 * late, grown, compiled]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contenders", nargs="*", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--shapes", type=int, default=200)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which a contender stops")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = draw_shapes(options.shapes, options.batches)
    if options.measure:
        return measure(options.measure, shapes, options.limit)
    print(f"CPU, {os.cpu_count()} cores, float32, {len(set(shapes))} shapes; tensorflow {tf.__version__}, "
          f"keras {keras.__version__}, kseq {kseq.__version__}")  # fmt: skip
    print("| contender | batches | seconds | slowest, s | second half, ms | MB | compilations |\n" + "|---" * 7 + "|")
    for contender in options.contenders:
        command = [sys.executable, __file__, "--measure", contender, "--limit", str(options.limit)]
        command += ["--shapes", str(options.shapes), "--batches", str(options.batches)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        batches, seconds, slowest, late, memory, compilations = json.loads(answer.stdout.splitlines()[-1])
        print(f"| {contender} | {batches} | {seconds:.1f} | {slowest:.2f} | {late:.0f} | {memory:.0f} | "
              f"{compilations} |", flush=True)  # fmt: skip
    return None


if __name__ == "__main__":
    main()
