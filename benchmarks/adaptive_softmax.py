"""Time of a train step of a language model with a full and with an adaptive softmax, over a large vocabulary.

usage: python benchmarks/adaptive_softmax.py [--vocabulary 50000] [--batch 32x35] [--units 256] [--runs 5]

The models are one layer of LSTM cells, and the optimizer is plain gradient descent. The tokens follow Zipf's law, as
words do, so that most of them are in the head: the share of each cluster is printed. The models take turns in one
process, in a plain graph (in which kseq compiles parts by itself) and compiled by XLA as a whole. The table gives
medians in milliseconds, and in brackets half the interquartile range.
"""

import argparse

import keras
import numpy as np
from recurrence import heading
from turns import median_and_spread, take_turns

import kseq


def train_step(vocabulary, units, batch, cutoffs, xla):
    encoder = kseq.models.Encoder(vocabulary, units, kseq.cells.LSTMCell(units), bidirectional=False)
    model = kseq.models.LanguageModel(encoder, cutoffs=cutoffs)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=xla)
    return lambda: model.train_on_batch(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=50000)
    parser.add_argument("--batch", default="32x35", help="rows x tokens")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--cutoffs", default="2000,10000")
    parser.add_argument("--modes", default="graph,XLA")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rows, steps = map(int, options.batch.split("x"))
    cutoffs = tuple(map(int, options.cutoffs.split(",")))
    chances = 1.0 / np.arange(1, options.vocabulary + 1)
    random = np.random.default_rng(0)
    tokens = random.choice(options.vocabulary, size=(rows, steps + 1), p=chances / chances.sum()).astype("int32")
    batch = {"source": tokens[:, :-1], "target": tokens[:, 1:], "lengths": np.full(rows, steps, "int32")}
    functions = {}
    for mode in options.modes.split(","):
        for name, given in (("full", None), ("adaptive", cutoffs)):
            functions[name, mode] = train_step(options.vocabulary, options.units, batch, given, mode == "XLA")
    counts = np.histogram(batch["target"], [0, *cutoffs, options.vocabulary])[0]
    print(heading(f"vocabulary {options.vocabulary}, {options.batch} tokens, {options.units} units, train step in ms"))
    print(f"tokens of the head and of the clusters from {cutoffs} on: {counts.tolist()}\n")
    times = take_turns(functions, options.runs)
    print("| mode | full softmax | adaptive softmax | ratio |\n|---|---|---|---|")
    for mode in options.modes.split(","):
        full, adaptive = times["full", mode], times["adaptive", mode]
        ratio = np.median(full) / np.median(adaptive)
        print(f"| {mode} | {median_and_spread(full)} | {median_and_spread(adaptive)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
