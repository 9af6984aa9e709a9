"""The LSTM with a projected output: its twin and its errors."""

import numpy as np
import pytest

import kseq
from tests.cells.twins import BATCH, FEATURES, TIME, UNITS, X, assert_equals_twin, random_layer
from tests.reference.gated_cells import projection_lstm_step


@pytest.mark.parametrize("projection_units", [None, 1, UNITS + 2])
def test_equals_its_twin(projection_units):
    assert_equals_twin(kseq.cells.ProjectionLSTMCell(UNITS, projection_units), projection_lstm_step)


@pytest.mark.parametrize(("units", "projection_units", "expected"), [(4, None, 2), (1, None, 1), (4, 3, 3)])
def test_shapes(units, projection_units, expected):
    layer = random_layer(kseq.cells.ProjectionLSTMCell(units, projection_units))
    shapes = [tuple(w.shape) for w in layer.weights]
    assert shapes == [(FEATURES, 4 * units), (expected, 4 * units), (4 * units,), (units, expected)]
    shapes = [tuple(tensor.shape) for tensor in layer(X)]
    assert shapes == [(BATCH, TIME, expected), (BATCH, expected), (BATCH, units)]


def test_with_the_identity_as_its_projection_it_is_an_lstm():
    cell = kseq.cells.ProjectionLSTMCell(UNITS, UNITS, projection_initializer="identity")
    lstm = kseq.layers.LSTM(UNITS, return_sequences=True)
    layer = kseq.layers.RNN(cell, return_sequences=True)
    for each in (layer, lstm):
        each.build(X.shape)
    layer.set_weights([*lstm.get_weights(), *layer.get_weights()[3:]])
    np.testing.assert_allclose(layer(X), lstm(X), atol=1e-6)


def test_no_units_to_project_to():
    with pytest.raises(ValueError, match="projection_units=0, but ProjectionLSTMCell needs a positive int"):
        kseq.cells.ProjectionLSTMCell(UNITS, 0)


def test_a_dropout_mask_for_each_gate_of_the_projected_state():
    layer = random_layer(kseq.cells.ProjectionLSTMCell(UNITS, 3, recurrent_dropout=0.5, seed=1))
    assert not np.allclose(layer(X, training=True)[0], layer(X)[0])
