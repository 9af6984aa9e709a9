"""The LSTM with coupled gates: its twin, its bounded memory, and its errors."""

import numpy as np
import pytest

import kseq
from tests.cells.twins import FEATURES, UNITS, X, assert_equals_twin
from tests.reference.gated_cells import coupled_lstm_step


def test_equals_its_twin():
    assert_equals_twin(kseq.cells.CoupledLSTMCell(UNITS), coupled_lstm_step)


@pytest.mark.parametrize("unit_forget_bias", [False, True])
def test_weights_begin_as_those_of_an_lstm_with_three_gates(unit_forget_bias):
    cell = kseq.cells.CoupledLSTMCell(UNITS, unit_forget_bias=unit_forget_bias)
    cell.build((None, FEATURES))
    assert [w.shape for w in cell.weights] == [(FEATURES, 3 * UNITS), (UNITS, 3 * UNITS), (3 * UNITS,)]
    np.testing.assert_array_equal(cell.bias, [unit_forget_bias] * UNITS + [0.0] * 2 * UNITS)


def test_the_memory_is_a_mean_of_what_came_in():
    """An LSTM's memory grows with its inputs; this one stays between -1 and 1."""
    memories = []
    for cell in (kseq.cells.LSTMCell(UNITS), kseq.cells.CoupledLSTMCell(UNITS)):
        _, _, memory = kseq.layers.RNN(cell, return_state=True)(10.0 * np.ones((1, 50, FEATURES), "float32"))
        memories.append(np.abs(memory).max())
    assert memories[0] > 2.0 > 1.0 >= memories[1]


def test_a_bias_for_four_gates_is_refused():
    recipe = kseq.initializers.chrono_lstm(longest=20)
    with pytest.raises(ValueError, match="fills the biases of four gates, but CoupledLSTMCell has three"):
        kseq.layers.RNN(kseq.cells.CoupledLSTMCell(UNITS, **recipe))(X)


@pytest.mark.parametrize("options", [{"implementation": 1, "dropout": 0.5}, {"recurrent_dropout": 0.5}])
def test_a_dropout_mask_for_each_of_the_three_gates(options):
    cell = kseq.cells.CoupledLSTMCell(UNITS, seed=1, **options)
    layer = kseq.layers.RNN(cell, return_sequences=True)
    assert not np.allclose(layer(X, training=True), layer(X))
    cell.get_dropout_mask(X[:, 0])
    cell.get_recurrent_dropout_mask(np.zeros((3, UNITS), "float32"))
    masks = cell.get_dropout_mask(X[:, 0]) or cell.get_recurrent_dropout_mask(X[:, 0])
    assert len(masks) == 3
