"""Time of a train step of each cell, relative to a plain LSTM, in `kseq.layers.RNN` and `keras.layers.RNN`.

usage: [KERAS_BACKEND=jax] python benchmarks/recurrent_cells.py [--shape 32x50x128x256] [--cells LayerNormLSTM ...]
       [--runs 11]

The same cells run in `kseq.layers.RNN` and, step by step, in `keras.layers.RNN`; the plain LSTM is each package's own
layer. All take turns in one process, on the same input. The table gives medians in milliseconds of the faster mode
(TensorFlow's graph or XLA; JAX's jit), in brackets half the interquartile range, and the ratio to the plain LSTM.
"""

import argparse

import keras
import numpy as np
from recurrence import ON_JAX, compiled, heading, measure
from turns import median_and_spread

import kseq

CELLS = {
    "LSTM": None,
    "PeepholeLSTM": kseq.cells.PeepholeLSTMCell,
    "LayerNormLSTM": kseq.cells.LayerNormLSTMCell,
    "CoupledLSTM": kseq.cells.CoupledLSTMCell,
    "ProjectionLSTM": kseq.cells.ProjectionLSTMCell,
    "Zoneout(LSTM)": lambda units: kseq.cells.ZoneoutCell(kseq.cells.LSTMCell(units), 0.1),
    "GRU": kseq.cells.GRUCell,
    "LayerNormGRU": kseq.cells.LayerNormGRUCell,
    "MinGRU": kseq.cells.MinGRUCell,
    "MinLSTM": kseq.cells.MinLSTMCell,
    "RGLRU": kseq.cells.RGLRUCell,
}


def contenders(name, features, units):
    """Return a dict of functions of the inputs, by package, cell and mode."""
    made = {}
    for package in (kseq, keras):
        if CELLS[name] is None:
            layer = package.layers.LSTM(units, return_sequences=True)
        else:
            layer = package.layers.RNN(CELLS[name](units), return_sequences=True)
        layer.build((None, None, features))
        for mode in ("jit",) if ON_JAX else ("graph", "xla"):
            made[package.__name__, name, mode] = compiled(layer, True, mode == "xla", None)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="32x50x128x256", help="batch x steps x input features x units")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    batch, steps, features, units = map(int, options.shape.split("x"))
    print(heading(f"{options.shape}, train step, median ms of {options.runs} runs"))
    inputs = np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32")
    functions = {}
    for name in dict.fromkeys(["LSTM", *options.cells]):
        functions |= contenders(name, features, units)
    times = measure(functions, inputs, options.runs)

    def best(package, name):
        return min((t for key, t in times.items() if key[:2] == (package, name)), key=np.median)

    print("| cell | kseq | of LSTM's | keras.layers.RNN(cell) | of LSTM's |\n|---|---|---|---|---|")
    for name in dict.fromkeys(name for _, name, _ in functions):
        line = [name]
        for package in ("kseq", "keras"):
            runs, plain = best(package, name), best(package, "LSTM")
            line += [median_and_spread(runs), f"{np.median(runs) / np.median(plain):.2f}"]
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
