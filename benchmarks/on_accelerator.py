"""Time of kseq on a GPU or TPU, by JAX: recurrent layers, CTC and beam search, beside Keras and PyTorch.

usage: python benchmarks/on_accelerator.py [--small] [--runs 11] [--minutes 7]

Needs jax for the device, keras and kseq, no TensorFlow, no data. Where PyTorch sees the GPU, its layers run on cuDNN;
without a GPU, PyTorch runs on the processor as the others do. The contenders take turns in one process, on the same
data; each is compiled, and waits for its results. The table gives medians in milliseconds and, in brackets, half the
interquartile range. --small has small shapes, to try the script; lines that would begin after --minutes are left out.

- LSTM, GRU: batch x steps x input features x units, against `keras.layers.LSTM` and `GRU`, and `torch.nn`.
- PeepholeLSTM, MinGRU: cells that have no layer, against `keras.layers.RNN` over the same cell.
- CTC: batch x frames x classes x labels, against `keras.ops.ctc_loss` and `torch.nn.functional.ctc_loss`.
- prefix beam search of width 10: the same shapes, against `keras.ops.ctc_decode`, which is left out at the larger one.
- beam search of width 4, 40 tokens: a GRU with attention, batch x vocabulary x source steps; Keras has none.
- train: the gradients of all weights, of CTC those of the logits; forward: the outputs alone.

Products of float32 are computed as JAX and PyTorch do by default, on recent GPUs in TF32.
"""

import argparse
import os
import time

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from decoding_step import BOS, EOS, LENGTH, make_step, make_weights
from keras import ops
from turns import median_and_spread, take_turns

import kseq

try:
    import torch
except ImportError:
    torch = None

RECURRENT = ("64x100x256x512", "32x50x128x256", "16x400x64x128")
CTC = ("32x400x64x50", "16x1000x1024x120")
SEARCH = ("8x8000x50", "32x8000x50")
SMALL = {"recurrent": ("4x10x8x16",), "ctc": ("2x20x8x5",), "search": ("2x20x5",)}
LARGEST_FOR_KERAS = 32 * 400 * 64  # logits of a prefix beam search
ON_CUDA = torch is not None and torch.cuda.is_available()
PACKAGES = {"kseq": kseq, "keras": keras}


def waiting(function, *arguments):
    """Return a compiled function without arguments that waits for its results."""
    compiled = jax.jit(function)
    arguments = jax.device_put(arguments)
    return lambda: jax.block_until_ready(compiled(*arguments))


def of_layer(layer, x, train):
    """Return a layer's training step, or its forward pass, with a loss that depends on all outputs."""
    layer.build(x.shape)
    weights, rest = ([v.value for v in of] for of in (layer.trainable_variables, layer.non_trainable_variables))

    def forward(weights, x):
        return layer.stateless_call(weights, rest, x, training=train)[0]

    if not train:
        return waiting(forward, weights, x)
    return waiting(jax.grad(lambda weights, x: ops.mean(ops.square(forward(weights, x)))), weights, x)


def of_torch(kind, x, units, train):
    """Return the same of a layer of PyTorch."""
    device = "cuda" if ON_CUDA else "cpu"
    layer = getattr(torch.nn, kind)(x.shape[2], units, batch_first=True).to(device)
    inputs = torch.from_numpy(x).to(device)

    def run():
        if train:
            layer.zero_grad(set_to_none=True)
            layer(inputs)[0].square().mean().backward()
        else:
            with torch.no_grad():
                layer(inputs)
        if ON_CUDA:
            torch.cuda.synchronize()

    return run


def recurrent(kind, shape, train):
    """Return the contenders of a recurrent layer."""
    batch, steps, features, units = shape
    x = np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32")
    options = {"return_sequences": True}
    if kind in ("LSTM", "GRU"):
        of = {name: getattr(package.layers, kind)(units, **options) for name, package in PACKAGES.items()}
    else:
        cell = getattr(kseq.cells, f"{kind}Cell")
        of = {name: package.layers.RNN(cell(units), **options) for name, package in PACKAGES.items()}
    made = {name: of_layer(layer, x, train) for name, layer in of.items()}
    if torch is not None and kind in ("LSTM", "GRU"):
        made["torch"] = of_torch(kind, x, units, train)
    return made


def ctc_batch(shape):
    """Return labels without the blank 0, logits, and the lengths of both; all rows are full."""
    rows, frames, classes, count = shape
    random = np.random.default_rng(0)
    labels = random.integers(1, classes, size=(rows, count)).astype("int32")
    logits = random.normal(size=(rows, frames, classes)).astype("float32")
    return labels, logits, np.full(rows, count, "int32"), np.full(rows, frames, "int32")


def ctc(shape, train):
    """Return the contenders of the CTC loss."""
    labels, logits, label_lengths, frames = ctc_batch(shape)

    def of(loss):
        def total(logits, *rest):
            return ops.sum(loss(rest[0], logits, *rest[1:]))

        return waiting(jax.grad(total) if train else total, logits, labels, label_lengths, frames)

    made = {"kseq": of(kseq.ctc_loss), "keras": of(keras.ops.ctc_loss)}
    if torch is not None:
        device = "cuda" if ON_CUDA else "cpu"
        inputs = [torch.from_numpy(x).to(device) for x in (logits, labels, frames, label_lengths)]

        def run():
            x, y, n, m = inputs
            x = x.detach().requires_grad_(train)
            loss = torch.nn.functional.ctc_loss(x.log_softmax(-1).transpose(0, 1), y, n, m, reduction="sum")
            if train:
                loss.backward()
            if ON_CUDA:
                torch.cuda.synchronize()

        made["torch"] = run
    return made


def prefix_beam_search(shape):
    """Return the contenders of a prefix beam search of width 10."""
    _, logits, _, frames = ctc_batch(shape)
    made = {"kseq": waiting(lambda x, n: kseq.ctc_beam_search(x, n, beam_width=10), logits, frames)}
    if logits.size <= LARGEST_FOR_KERAS:
        options = {"strategy": "beam_search", "beam_width": 10, "mask_index": 0}
        made["keras"] = waiting(lambda x, n: keras.ops.ctc_decode(x, n, **options), logits, frames)
    return made


def beam_search(shape):
    """Return the contender of a beam search of width 4."""
    batch, vocabulary, source = shape
    w = make_weights(vocabulary, source, batch)
    options = {"bos_id": BOS, "eos_id": EOS, "max_length": LENGTH, "beam_width": 4}

    def search(w):
        memory = {name: w[name] for name in ("keys", "values")}
        return kseq.beam_search(make_step(w), w["state"], memory=memory, **options).tokens

    return {"kseq": waiting(search, w)}


def lines(small):
    """Yield for each line of the table its name, shape, pass, and a function that makes the contenders."""
    shapes = SMALL if small else {"recurrent": RECURRENT, "ctc": CTC, "search": SEARCH}
    shapes = {name: [tuple(map(int, text.split("x"))) for text in of] for name, of in shapes.items()}
    for train in (True, False):
        passed = "train" if train else "forward"
        for kind in ("LSTM", "GRU", "PeepholeLSTM", "MinGRU"):
            for shape in shapes["recurrent"][: None if kind in ("LSTM", "GRU") else 1]:
                yield kind, shape, passed, lambda kind=kind, shape=shape, train=train: recurrent(kind, shape, train)
        for shape in shapes["ctc"]:
            yield "CTC", shape, passed, lambda shape=shape, train=train: ctc(shape, train)
    for shape in shapes["search"]:
        yield "beam search", shape, "", lambda shape=shape: beam_search(shape)
    for shape in shapes["ctc"]:
        yield "prefix beam search", shape, "", lambda shape=shape: prefix_beam_search(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--minutes", type=float, default=7.0)
    options = parser.parse_args()
    device = f"{jax.devices()[0].device_kind} ({jax.default_backend()})"
    versions = f"jax {jax.__version__}, keras {keras.__version__}, kseq {kseq.__version__}"
    if torch is not None:
        versions += f", torch {torch.__version__} on {'cuDNN' if ON_CUDA else 'the processor'}"
    print(f"{device}, float32, median ms of {options.runs} runs; {versions}")
    columns = ["kseq", "keras", *([] if torch is None else ["torch"])]
    head = ["", "shape", "", *columns, *(f"{name} / kseq" for name in columns[1:])]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    start = time.monotonic()
    for name, shape, passed, make in lines(options.small):
        cells = [name, "x".join(map(str, shape)), passed]
        if time.monotonic() - start > 60 * options.minutes:
            print("| " + " | ".join([*cells, "left out: no time"]) + " |", flush=True)
            continue
        times = take_turns(make(), options.runs)
        cells += [median_and_spread(times[name]) if name in times else "-" for name in columns]
        ratios = (np.median(times[name]) / np.median(times["kseq"]) if name in times else None for name in columns[1:])
        cells += ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
