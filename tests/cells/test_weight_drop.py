"""WeightDropCell against the inner cell with the kernel that is left."""

import numpy as np
import pytest

import kseq
from tests.support import assert_all_close, outputs_and_gradients

X = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")
INNER = {"lstm": lambda: kseq.cells.LSTMCell(4), "gru": lambda: kseq.cells.GRUCell(4)}


def make(cell):
    layer = kseq.layers.RNN(cell, return_sequences=True)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape) / 2 for w in layer.get_weights()])
    return layer


def mask_of(layer):
    """The mask of the next call, `(units, gates * units)`."""
    cell = layer.cell
    cell.seed_generator.state.assign([7, 0])
    cell.reset_recurrent_dropout_mask()
    cell.equations(training=True).weights(1)
    (mask,) = cell.kept_mask("weights", list)
    cell.seed_generator.state.assign([7, 0])
    cell.reset_recurrent_dropout_mask()
    return np.asarray(mask)


@pytest.mark.parametrize("kind", INNER)
def test_training_is_that_of_the_inner_cell_with_the_kernel_that_is_left(kind):
    layer, inner = make(kseq.cells.WeightDropCell(INNER[kind](), 0.3, seed=7)), make(INNER[kind]())
    mask = mask_of(layer)
    np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-6)
    inner.cell.recurrent_kernel.assign(inner.cell.recurrent_kernel * mask)
    outputs, gradients = outputs_and_gradients(layer, X, training=True)
    expected, of_inner = outputs_and_gradients(inner, X, training=True)
    assert_all_close(outputs, expected, atol=1e-6)
    place = next(i for i, weight in enumerate(inner.trainable_weights) if weight.name == "recurrent_kernel") + 1
    of_inner[place] = of_inner[place] * mask  # 0 for weights that are dropped
    assert_all_close(gradients, of_inner, atol=1e-5)


def test_each_call_drops_others_and_inference_none():
    layer = make(kseq.cells.WeightDropCell(kseq.cells.LSTMCell(4), 0.5))
    one, other = (np.asarray(layer(X, training=True)) for _ in range(2))
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-6)  # nothing is recurrent yet
    assert not np.allclose(one[:, 1:], other[:, 1:])
    inner = make(kseq.cells.LSTMCell(4))
    np.testing.assert_array_equal(layer(X), inner(X))
    steps, state = [], layer.cell.get_initial_state(3)
    for step in range(3):  # the mask of the first step stays
        output, state = layer.cell(X[:, step], state, training=True)
        steps.append(output)
    again, _ = layer.cell(X[:, 0], layer.cell.get_initial_state(3), training=True)
    np.testing.assert_array_equal(again, steps[0])


def test_what_is_refused():
    with pytest.raises(ValueError, match="rate"):
        kseq.cells.WeightDropCell(kseq.cells.LSTMCell(4), 1.5)
    with pytest.raises(ValueError, match=r"Put WeightDropCell inside: ResidualCell\(WeightDropCell\(cell\)\)"):
        kseq.cells.WeightDropCell(kseq.cells.ResidualCell(kseq.cells.LSTMCell(4)))
    with pytest.raises(ValueError, match="reset_after=True"):
        kseq.cells.WeightDropCell(kseq.cells.GRUCell(4, reset_after=False))
