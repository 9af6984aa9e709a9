"""ResidualCell: the sum, and its value at masked steps."""

import functools

import numpy as np
import pytest

import kseq
from kseq.engine.stepwise_loop import run_stepwise
from tests.support import assert_all_close, outputs_and_gradients

BATCH, TIME, UNITS = 4, 6, 5
X = np.random.default_rng(0).normal(size=(BATCH, TIME, UNITS)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)


def pair(**options):
    """A residual cell's layer, and one over its inner cell alone."""
    inner = kseq.cells.LSTMCell(UNITS)
    layers = [kseq.layers.RNN(cell, **options) for cell in (kseq.cells.ResidualCell(inner), inner)]
    for layer in layers:
        layer.build(X.shape)
    return layers


def test_the_inputs_are_added():
    residual, plain = pair(return_sequences=True)
    np.testing.assert_allclose(residual(X), np.asarray(plain(X)) + X, atol=1e-6)


def test_a_masked_step_has_the_sum_of_the_last_real_one():
    residual, plain = pair(return_sequences=True, return_state=True)
    outputs, *final = residual(X, mask=MASK)
    expected, *expected_final = plain(X, mask=MASK)
    expected, held = np.asarray(expected), np.zeros((BATCH, TIME, UNITS), "float32")
    for row in range(BATCH):
        for time in range(TIME):
            if MASK[row, time]:
                held[row, time] = expected[row, time] + X[row, time]
            elif time > 0:
                held[row, time] = held[row, time - 1]
    np.testing.assert_allclose(outputs, held, atol=1e-6)
    # Not bitwise equal: on JAX the plain cell's inputs are projected step by step.
    assert_all_close([np.asarray(f) for f in final], [np.asarray(f) for f in expected_final], atol=1e-6)


def test_the_last_output_is_the_last_real_steps():
    sequences, last = pair(return_sequences=True)[0], pair()[0]
    last.set_weights(sequences.get_weights())
    np.testing.assert_allclose(last(X, mask=MASK), np.asarray(sequences(X, mask=MASK))[:, -1], atol=1e-6)
    np.testing.assert_allclose(last(X), np.asarray(sequences(X))[:, -1], atol=1e-6)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_gradients_equal_those_of_the_steps(return_sequences, monkeypatch):
    layer = pair(return_sequences=return_sequences)[0]
    got = outputs_and_gradients(layer, X, mask=MASK, training=True)
    monkeypatch.setattr(layer.cell, "run", functools.partial(run_stepwise, layer.cell))
    expected = outputs_and_gradients(layer, X, mask=MASK, training=True)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


def test_around_a_stack():
    stack = kseq.cells.StackedCells([kseq.cells.LSTMCell(7), kseq.cells.GRUCell(UNITS)])
    residual = kseq.layers.RNN(kseq.cells.ResidualCell(stack), return_sequences=True)
    np.testing.assert_allclose(residual(X), np.asarray(kseq.layers.RNN(stack, return_sequences=True)(X)) + X, atol=1e-6)


def test_unlike_sizes_are_refused():
    with pytest.raises(ValueError, match=r"adds the inputs \(4, 5\) to the outputs of LSTMCell, \(batch, 7\)"):
        kseq.layers.RNN(kseq.cells.ResidualCell(kseq.cells.LSTMCell(7)))(X)
