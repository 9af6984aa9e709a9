"""Time of a CRF's training step and decoding, for kseq, a Keras loop as users write it, and pytorch-crf.

usage: python benchmarks/crf.py [--shapes 32x50x17 32x128x45 8x512x9] [--contenders kseq keras torch] [--runs 21]

A shape is batch x time x tags; rows have between half of the steps and all of them. The contenders take turns in one
process, on the same input. A training step is the mean log-likelihood and its gradient with respect to the scores, the
transitions, and the scores of starts and ends; decoding is the best sequence of tags of each row. The table gives
medians in milliseconds and, in brackets, half the interquartile range.

- graph, xla: the two modes of TensorFlow; parts: a graph with compiled parts, as in `Model.predict`; eager:
  `kseq.decoding.crf_decode` as it is called outside a graph.
- Keras: one step of the recursion after another by `keras.ops.scan`, with logsumexp, max and argmax over pairs of tags.
  XLA cannot compile the gradient of such a loop on TensorFlow.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch
import torchcrf
from keras import ops
from turns import median_and_spread, take_turns

import kseq

SHAPES = ("32x50x17", "32x128x45", "8x512x9")


def batch_of(shape):
    """Return tags, scores, lengths, transitions, and the scores of starts and ends."""
    rows, time, count = shape
    random = np.random.default_rng(0)
    tags = random.integers(0, count, size=(rows, time)).astype("int32")
    lengths = random.integers(time // 2, time + 1, size=rows).astype("int32")
    lengths[0] = time
    scores = (2.0 * random.normal(size=(rows, time, count))).astype("float32")
    return tags, scores, lengths, *(random.normal(size=s).astype("float32") for s in ((count, count), count, count))


def keras_log_likelihood(tags, scores, lengths, *, transitions, start, end):
    """Return the log-likelihood of each row, computed step by step."""
    count, mask = scores.shape[2], ops.arange(scores.shape[1])[None] < lengths[:, None]
    one_hot = ops.one_hot(tags, count) * ops.cast(mask, "float32")[:, :, None]
    pairs = ops.einsum("bti,btj->ij", one_hot[:, :-1], one_hot[:, 1:])
    last = ops.take_along_axis(tags, lengths[:, None] - 1, axis=1)[:, 0]
    given = ops.sum(one_hot * scores) + ops.sum(pairs * transitions)
    given += ops.sum(ops.take(start, tags[:, 0])) + ops.sum(ops.take(end, last))

    def step(alpha, at):
        scores, real = at
        new = ops.logsumexp(alpha[:, :, None] + transitions[None], axis=1) + scores
        alpha = ops.where(real[:, None], new, alpha)
        return alpha, alpha

    steps = ops.transpose(scores, (1, 0, 2)), ops.transpose(mask)
    alpha, _ = ops.scan(step, start + steps[0][0], (steps[0][1:], steps[1][1:]))
    return (given - ops.sum(ops.logsumexp(alpha + end, axis=1))) / ops.shape(tags)[0]


def keras_decode(scores, lengths, *, transitions, start, end):
    """Return the best tags of each row, computed step by step."""
    rows, time, _ = scores.shape
    steps = ops.transpose(scores, (1, 0, 2))
    mask = ops.arange(time)[:, None] < lengths[None]

    def step(carry, at):
        scores, real = at
        each = carry[0][:, :, None] + transitions[None]
        best = ops.where(real[:, None], ops.max(each, axis=1) + scores, carry[0])
        moves = ops.where(real[:, None], ops.cast(ops.argmax(each, axis=1), "int32"), ops.arange(scores.shape[1])[None])
        return (best, moves), (best, moves)

    start = start + steps[0], ops.zeros((rows, scores.shape[2]), "int32")
    (best, _), (_, moves) = ops.scan(step, start, (steps[1:], mask[1:]))
    last = ops.cast(ops.argmax(best + end, axis=1), "int32")

    def back(tag, moves):
        before = ops.take_along_axis(moves, tag[:, None], axis=1)[:, 0]
        return before, before

    _, others = ops.scan(back, last, moves, reverse=True)
    return ops.transpose(ops.concatenate([others, last[None]], axis=0))


def training_step(log_likelihood, batch, xla):
    """Return a function that computes value and gradients, and returns the value and the transitions' gradient."""

    @tf.function(jit_compile=xla, autograph=False)
    def function(tags, scores, lengths, transitions, start, end):
        with tf.GradientTape() as tape:
            given = (scores, transitions, start, end)
            tape.watch(given)
            value = tf.reduce_mean(log_likelihood(tags, scores, lengths, transitions=transitions, start=start, end=end))
        return value, tape.gradient(value, given)

    tensors = [tf.constant(x) for x in batch]

    def run():
        value, gradients = function(*tensors)
        return float(value), gradients[1].numpy()

    return run


def decoding(decode, batch, mode):
    """Return a function that decodes, and returns the tags."""

    def of_tensors(scores, lengths, transitions, start, end):
        return decode(scores, lengths, transitions=transitions, start=start, end=end)

    function = of_tensors if mode == "eager" else tf.function(of_tensors, jit_compile=mode == "xla", autograph=False)
    tensors = [tf.constant(x) for x in batch[1:]]

    def run():
        with kseq.config.jit_compile_scope(True if mode == "parts" else "auto"):
            return function(*tensors).numpy()

    return run


def kseq_decode(scores, lengths, **chain):
    return kseq.decoding.crf_decode(scores, lengths, **chain).tags[:, 0]


def of_torch(batch):
    """Return the training step and the decoding of pytorch-crf."""
    tags, scores, lengths, *parameters = (torch.from_numpy(x) for x in batch)
    mask = torch.arange(scores.shape[1])[None] < lengths[:, None]
    crf = torchcrf.CRF(scores.shape[2], batch_first=True)
    crf.transitions.data, crf.start_transitions.data, crf.end_transitions.data = parameters
    scores.requires_grad_()

    def step():
        crf.zero_grad()
        scores.grad = None
        value = crf(scores, tags.long(), mask, reduction="mean")
        value.backward()
        return float(value.detach()), crf.transitions.grad.numpy()

    def decode():
        with torch.no_grad():
            found = crf.decode(scores, mask)
        return np.array([row + [-1] * (scores.shape[1] - len(row)) for row in found])

    return step, decode


def contenders(names, batch):
    """Return the functions of the training step and of decoding, by name."""
    steps, decoders = {}, {}
    if "kseq" in names:
        steps |= {
            f"kseq {'xla' if xla else 'graph'}": training_step(kseq.losses.crf_log_likelihood, batch, xla)
            for xla in (False, True)
        }
        decoders |= {f"kseq {mode}": decoding(kseq_decode, batch, mode) for mode in ("eager", "graph", "parts", "xla")}
    if "keras" in names:
        steps["Keras graph"] = training_step(keras_log_likelihood, batch, xla=False)
        decoders |= {f"Keras {mode}": decoding(keras_decode, batch, mode) for mode in ("graph", "xla")}
    if "torch" in names:
        steps["pytorch-crf"], decoders["pytorch-crf"] = of_torch(batch)
    return steps, decoders


def difference(found, lengths):
    """Return how much the results of the contenders differ at most, as a text."""
    first, *others = found.values()
    if isinstance(first, tuple):
        values = max((abs(value - first[0]) / abs(first[0]) for value, _ in others), default=0.0)
        gradients = max((np.abs(gradient - first[1]).max() for _, gradient in others), default=0.0)
        return f"log-likelihood {first[0]:.4f}; relative difference at most {values:.1e}, of gradients {gradients:.1e}"
    real = np.arange(first.shape[1])[None] < lengths[:, None]
    return f"{max(((tags != first) & real).sum() for tags in found.values())} tags differ"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--contenders", nargs="*", default=["kseq", "keras", "torch"])
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(
        f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, keras "
        f"{keras.__version__}, torch {torch.__version__}, kseq {kseq.__version__}"
    )
    for text in options.shapes:
        batch = batch_of(tuple(map(int, text.split("x"))))
        for work, functions in zip(("training step", "decoding"), contenders(options.contenders, batch), strict=True):
            times = take_turns(functions, options.runs)
            results = {name: function() for name, function in functions.items()}
            print(f"\n{text}, {work}: {difference(results, batch[2])}\n\n| | ms |\n|---|---|")
            for name, runs in times.items():
                print(f"| {name} | {median_and_spread(runs)} |", flush=True)


if __name__ == "__main__":
    main()
