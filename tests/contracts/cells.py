"""Every cell of `kseq.cells.__all__`, small, for the tests of what all of them keep. A new cell joins by its line."""

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
# A cell for each way through the engine: additive and activated, with a gradient by hand, the same with gate weights,
# with automatic gradients, by a scan, one cell after the other, and with averages.
ONE_A_PATH = [
    kseq.cells.LSTMCell,
    kseq.cells.GRUCell,
    kseq.cells.PeepholeLSTMCell,
    kseq.cells.ConvLSTMCell,
    kseq.cells.MinGRUCell,
    kseq.cells.StackedCells,
    kseq.cells.BatchNormCell,
]
RATES = {  # of what wrappers do at random
    "ZoneoutCell": {"rate": 0.25},
    "DropoutCell": {"input_dropout": 0.25, "recurrent_dropout": 0.25, "output_dropout": 0.25},
}


def build_cell(cell_class, **options):
    """A small cell, from what its constructor takes first: `units`, a `cell`, or `cells`."""
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
    """Have what is random draw what it drew before."""
    for variable in layer.variables:
        if variable.name == "seed_generator_state":
            variable.assign([7, 0])


def trained(layer, x, **call):
    """Outputs and gradients in training, with the same draws each time."""
    draw_again(layer)
    return outputs_and_gradients(layer, x, training=True, **call)
