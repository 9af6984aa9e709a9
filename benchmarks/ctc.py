"""Time of the CTC loss with its gradient, for kseq, Keras, PyTorch and optax; and of forced alignment.

usage: python benchmarks/ctc.py [--shapes 32x400x64x50 ...] [--contenders kseq keras torch optax align]
       [--runs 11] [--seconds 20]

A shape is batch x frames x classes x labels; all rows have full length. The contenders take turns in one process, on
the same input, and compute the gradient of the summed loss with respect to the logits. The table gives medians in
milliseconds and, in brackets, half the interquartile range.

- graph, xla: the two modes of TensorFlow; optax: compiled by JAX; align: `kseq.ctc_forced_align`.
- Keras is omitted at the fourth shape, where it needs tens of GiB. A contender stops once its runs took --seconds.
"""

import argparse
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import keras
import numpy as np
import optax
import tensorflow as tf
import torch

import kseq

SHAPES = ("32x400x64x50", "16x150x32x20", "16x1000x1024x120", "4x3000x5000x300")
LARGEST_FOR_KERAS = 16 * 1000 * 1024  # number of logits


def batch_of(shape):
    """Return labels without the blank 0, logits, and the lengths of both."""
    rows, frames, classes, count = shape
    random = np.random.default_rng(0)
    labels = random.integers(1, classes, size=(rows, count)).astype("int32")
    logits = random.normal(size=(rows, frames, classes)).astype("float32")
    return labels, logits, np.full(rows, count, "int32"), np.full(rows, frames, "int32")


def of_tensorflow(loss, jit_compile):
    """Return a function of the batch that computes the loss and its gradient, and returns the loss."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def function(labels, logits, label_lengths, logit_lengths):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(loss(labels, logits, label_lengths, logit_lengths))
        return total, tape.gradient(total, logits)

    def run(batch):
        return float(function(*batch)[0])  # waits for the gradient too: both belong to one graph

    return run


def keras_loss(labels, logits, label_lengths, logit_lengths):
    return keras.ops.ctc_loss(labels, logits, label_lengths, logit_lengths, mask_index=0)


def aligned(jit_compile):
    function = tf.function(kseq.ctc_forced_align, jit_compile=jit_compile, autograph=False)
    return lambda batch: float(tf.reduce_sum(function(*batch).scores))


def of_optax():
    def total(logits, labels, label_lengths, logit_lengths):
        frames = np.arange(logits.shape[1])[None] >= logit_lengths[:, None]
        places = np.arange(labels.shape[1])[None] >= label_lengths[:, None]
        return optax.ctc_loss(logits, frames.astype("float32"), labels, places.astype("float32")).sum()

    function = jax.jit(jax.value_and_grad(total))

    def run(batch):
        labels, logits, label_lengths, logit_lengths = batch
        return float(jax.block_until_ready(function(logits, labels, label_lengths, logit_lengths))[0])

    return run


def of_torch(batch):
    labels, logits, label_lengths, logit_lengths = (torch.from_numpy(x) for x in batch)
    logits = logits.requires_grad_()
    scores = torch.log_softmax(logits, dim=-1).transpose(0, 1)
    total = torch.nn.functional.ctc_loss(scores, labels.long(), logit_lengths, label_lengths, reduction="sum")
    total.backward()
    return float(total.detach())


def contenders(names, shape):
    """Return a dict of each contender's function and the conversion of its batch."""
    on_tensorflow = lambda batch: [tf.constant(x) for x in batch]  # noqa: E731
    made = {}
    for mode in ("graph", "xla"):
        xla = mode == "xla"
        if "kseq" in names:
            made[f"kseq {mode}"] = of_tensorflow(kseq.ctc_loss, xla), on_tensorflow
        if "keras" in names and np.prod(shape[:3]) <= LARGEST_FOR_KERAS:
            made[f"keras {mode}"] = of_tensorflow(keras_loss, xla), on_tensorflow
    if "torch" in names:
        made["torch"] = of_torch, lambda batch: batch
    if "optax" in names:
        made["optax"] = of_optax(), lambda batch: [batch[0], jax.numpy.asarray(batch[1]), *batch[2:]]
    if "align" in names:
        made["align xla"] = aligned(True), on_tensorflow
    return made


def measure(functions, batch, runs, seconds):
    """Return the milliseconds of each run, without the first calls, which compile and warm up.

    An unmeasured call precedes each measured one, because the previous contender's threads may still be spinning.
    """
    times, values = {name: [] for name in functions}, {}
    inputs = {name: convert(batch) for name, (_, convert) in functions.items()}
    for run in range(-2, runs):
        for name, (function, _) in functions.items():
            if name in values and run > 0 and sum(times[name]) > 1e3 * seconds:
                continue
            function(inputs[name])
            start = time.perf_counter()
            values[name] = function(inputs[name])
            if run >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times, values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--contenders", nargs="*", default=["kseq", "keras", "torch", "optax", "align"])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=20.0, help="total time after which a contender stops")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(
        f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, keras "
        f"{keras.__version__}, torch {torch.__version__}, optax {optax.__version__}, kseq {kseq.__version__}"
    )
    for text in options.shapes:
        shape = tuple(map(int, text.split("x")))
        times, values = measure(contenders(options.contenders, shape), batch_of(shape), options.runs, options.seconds)
        median = {name: float(np.median(runs)) for name, runs in times.items()}
        best = min((value for name, value in median.items() if name.startswith("kseq")), default=float("nan"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\n{text}: most memory so far {peak:.2f} GiB\n\n| | ms | against kseq | loss |\n|---|---|---|---|")
        for name, runs in times.items():
            spread = np.subtract(*np.percentile(runs, [75, 25])) / 2
            print(f"| {name} | {median[name]:.1f} ({spread:.1f}) | {median[name] / best:.2f} | {values[name]:.3f} |")


if __name__ == "__main__":
    main()
