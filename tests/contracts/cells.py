"""Small instances of every cell in `kseq.cells.__all__`, for the contract tests. Exporting a new cell adds it here."""

import inspect

import numpy as np

import kseq
from tests.support import outputs_and_gradients

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
LENGTHS = np.array([6, 3, 1])
CELLS = [
    getattr(kseq.cells, name)
    for name in kseq.cells.__all__
    if inspect.isclass(getattr(kseq.cells, name)) and issubclass(getattr(kseq.cells, name), kseq.cells.Cell)
]
CELLS.remove(kseq.cells.Cell)
# One cell for each code path of the engine: hand-written gradients with stored activations; hand-written gradients
# without; gate weights; automatic gradients; a parallel scan; stacked cells; batch statistics.
ONE_A_PATH = [
    kseq.cells.LSTMCell,
    kseq.cells.GRUCell,
    kseq.cells.PeepholeLSTMCell,
    kseq.cells.ConvLSTMCell,
    kseq.cells.MinGRUCell,
    kseq.cells.StackedCells,
    kseq.cells.BatchNormCell,
]
RATES = {  # options that make the random wrappers random
    "ZoneoutCell": {"rate": 0.25},
    "WeightDropCell": {"rate": 0.25},
    "DropoutCell": {"input_dropout": 0.25, "recurrent_dropout": 0.25, "output_dropout": 0.25},
}


def build_cell(cell_class, **options):
    """Return a small cell; the constructor's first parameter is `units`, `cell` or `cells`."""
    first = next(iter(inspect.signature(cell_class).parameters))
    if first == "cell":
        return cell_class(kseq.cells.LSTMCell(FEATURES, **options), **RATES.get(cell_class.__name__, {}), **options)
    if first == "cells":
        inner = [kseq.cells.LSTMCell(UNITS, **options), kseq.cells.GRUCell(FEATURES, **options)]
        return cell_class(inner, **options)
    return cell_class(UNITS, **options)


def make(cell_class, layer_class=None, **options):
    dtype = options.pop("dtype", None)
    layer_class = layer_class or kseq.layers.RNN
    cell = build_cell(cell_class, dtype=dtype)
    layer = layer_class(cell, return_sequences=True, return_state=True, dtype=dtype, **options)
    layer.build((None, None, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), FEATURES))
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape) / 2)
    return layer


def draw_again(layer):
    """Reset all seed generators, so that the next call draws the same random numbers again."""
    for variable in layer.variables:
        if variable.name == "seed_generator_state":
            variable.assign([7, 0])


def trained(layer, x, **call):
    """Return outputs and gradients in training mode, with the same random numbers in every call."""
    draw_again(layer)
    return outputs_and_gradients(layer, x, training=True, **call)
