"""Time of calls outside graphs, as in a notebook, for kseq, Keras and PyTorch.

usage: python benchmarks/eager_calls.py [--runs 5]

The contenders take turns in one process, on the same input. The table gives medians in milliseconds and, in brackets,
half the interquartile range; kseq has been called often enough to have compiled its parts. "compiled by" is the time of
kseq's first calls together, up to the first one that runs compiled code.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch
from keras import ops
from turns import median_and_spread, take_turns

import kseq
from kseq.eager_calls import FIRST_CALLS

SHAPES = ((32, 50, 128, 256), (1, 20, 32, 64))  # batch, steps, features, units


def layer_calls(batch, steps, features, units):
    x = np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32")
    ours, theirs = kseq.layers.LSTM(units), keras.layers.LSTM(units)
    other, torch_x, x = torch.nn.LSTM(features, units, batch_first=True), torch.tensor(x), tf.constant(x)

    def train(layer):
        with tf.GradientTape() as tape:
            loss = ops.sum(layer(x, training=True))
        return tape.gradient(loss, layer.trainable_variables)[0].numpy()

    def train_torch():
        other.zero_grad(set_to_none=True)
        other(torch_x)[0][:, -1].sum().backward()
        return other.weight_hh_l0.grad.numpy()

    def call_torch():
        with torch.no_grad():
            return other(torch_x)[0].numpy()

    shape = "x".join(map(str, (batch, steps, features, units)))
    yield f"LSTM {shape}", lambda: ours(x).numpy(), lambda: theirs(x).numpy(), call_torch
    yield f"LSTM {shape}, gradient", lambda: train(ours), lambda: train(theirs), train_torch


def ctc_calls(batch=32, frames=400, classes=64, count=50):
    random = np.random.default_rng(0)
    logits = tf.constant(random.normal(size=(batch, frames, classes)).astype("float32"))
    labels = tf.constant(random.integers(1, classes, (batch, count)), "int32")
    lengths, frame_counts = tf.fill((batch,), count), tf.fill((batch,), frames)
    given = [torch.tensor(x.numpy()) for x in (tf.transpose(logits, (1, 0, 2)), labels, frame_counts, lengths)]
    log_probabilities = torch.log_softmax(given[0], dim=2)
    yield (
        "ctc_loss",
        lambda: kseq.ctc_loss(labels, logits, lengths, frame_counts).numpy(),
        lambda: ops.ctc_loss(labels, logits, lengths, frame_counts).numpy(),
        lambda: torch.nn.functional.ctc_loss(log_probabilities, *given[1:], reduction="none").numpy(),
    )
    yield (
        "ctc_forced_align",
        lambda: kseq.ctc_forced_align(labels, logits, lengths, frame_counts).scores.numpy(),
        None,
        None,
    )
    yield (
        "ctc_beam_search, width 10",
        lambda: kseq.ctc_beam_search(logits, frame_counts, beam_width=10).scores.numpy(),
        lambda: ops.ctc_decode(logits, frame_counts, strategy="beam_search", beam_width=10)[1].numpy(),
        None,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    versions = f"tensorflow {tf.__version__}, keras {keras.__version__}, torch {torch.__version__}"
    print(f"CPU, {os.cpu_count()} cores, float32; {versions}; milliseconds")
    print("| call | kseq, compiled by | kseq | Keras | PyTorch |\n|---|---|---|---|---|")
    for calls in (*(layer_calls(*shape) for shape in SHAPES), ctc_calls()):
        for name, ours, theirs, other in calls:
            start = time.perf_counter()
            for _ in range(FIRST_CALLS + 1):
                ours()
            first = 1e3 * (time.perf_counter() - start)
            functions = {"kseq": ours, "Keras": theirs, "PyTorch": other}
            times = take_turns({key: call for key, call in functions.items() if call}, runs)
            cells = (median_and_spread(times[key]) if key in times else "" for key in functions)
            print(f"| {name} | {first:.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
