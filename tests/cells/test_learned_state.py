"""LearnedStateCell: its initial state is used and learned, and a given state replaces it."""

import keras
import numpy as np
import pytest

import kseq
from tests.support import assert_all_close, outputs_and_gradients

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")


def make(wrap=lambda cell: cell, inner=None, **options):
    cell = wrap(kseq.cells.LearnedStateCell(inner or kseq.cells.LSTMCell(UNITS), initializer="random_normal"))
    layer = kseq.layers.RNN(cell, return_sequences=True, return_state=True, **options)
    layer.build(X.shape)
    return layer


def learned(layer):
    return [w for w in layer.trainable_weights if w.name.startswith("initial_state")]


def test_it_is_the_state_that_the_plain_cell_is_given():
    layer = make()
    state = [np.broadcast_to(np.asarray(w), (BATCH, UNITS)) for w in learned(layer)]
    plain = kseq.layers.RNN(layer.cell.cell, return_sequences=True, return_state=True)
    assert_all_close([*map(np.asarray, layer(X))], [*map(np.asarray, plain(X, initial_state=state))], atol=1e-6)
    assert not np.allclose(layer(X)[0], plain(X)[0])


@pytest.mark.every_backend
def test_its_gradient_is_that_of_the_given_state_over_all_rows():
    layer = make()
    _, gradients = outputs_and_gradients(layer, X, training=True)
    names = [w.name for w in layer.trainable_weights]
    got = [gradients[1 + names.index(w.name)] for w in learned(layer)]
    weights = [np.asarray(w).copy() for w in learned(layer)]

    def total(values):
        for weight, value in zip(learned(layer), values, strict=True):
            weight.assign(value)
        random = np.random.default_rng(0)  # the weights of outputs_and_gradients
        return sum(np.sum(np.asarray(o) * random.normal(size=o.shape).astype("float32")) for o in layer(X))

    direction = [np.random.default_rng(3).normal(size=w.shape).astype("float32") for w in weights]
    ahead, back = (total([w + s * d for w, d in zip(weights, direction, strict=True)]) for s in (0.01, -0.01))
    along = sum(np.sum(g * d) for g, d in zip(got, direction, strict=True))
    np.testing.assert_allclose(along, (ahead - back) / 0.02, rtol=2e-3)  # float32: sums of about 100 numbers


def test_a_given_state_takes_its_place():
    layer = make()
    state = [np.full((BATCH, UNITS), value, "float32") for value in (0.3, -0.2)]
    before = np.asarray(layer(X, initial_state=state)[0])
    for weight in learned(layer):
        weight.assign(np.ones(UNITS))
    np.testing.assert_array_equal(layer(X, initial_state=state)[0], before)


def test_a_row_without_steps_gives_it_back():
    layer = make()
    outputs, *final = layer(X, mask=np.array([[True] * TIME, [False] * TIME, [True] * TIME]))
    assert np.all(np.asarray(outputs)[1] == 0)
    for value, weight in zip(final, learned(layer), strict=True):
        np.testing.assert_array_equal(np.asarray(value)[1], np.asarray(weight))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda cell: kseq.cells.ZoneoutCell(cell, 0.3),
        lambda cell: kseq.cells.DropoutCell(cell, 0.1, 0.1, 0.1),
        lambda cell: kseq.cells.StackedCells([cell, kseq.cells.GRUCell(3)]),
    ],
    ids=["zoneout", "dropout", "stack"],
)
def test_inside_other_cells(wrap):
    layer = make(wrap)
    for state, weight in zip(layer.get_initial_state(BATCH), learned(layer)[:2], strict=False):
        np.testing.assert_array_equal(state, np.broadcast_to(np.asarray(weight), (BATCH, UNITS)))
    _, gradients = outputs_and_gradients(layer, X, training=True)
    names = [w.name for w in layer.trainable_weights]
    assert all(np.any(gradients[1 + names.index(w.name)] != 0) for w in learned(layer))


def test_around_a_stack():
    layer = make(inner=kseq.cells.StackedCells([kseq.cells.LSTMCell(UNITS), kseq.cells.GRUCell(3)]))
    assert [tuple(s.shape) for s in layer.get_initial_state(BATCH)] == [(BATCH, 4), (BATCH, 4), (BATCH, 3)]
    assert len(learned(layer)) == 3


def test_both_directions_learn_their_own():
    layer = kseq.layers.Bidirectional(make())
    layer.build(X.shape)
    assert len(learned(layer)) == 4
    outputs, *_ = layer(X)
    assert outputs.shape == (BATCH, TIME, 2 * UNITS)


def test_a_regularizer_counts():
    cell = kseq.cells.LearnedStateCell(kseq.cells.GRUCell(UNITS), "ones", keras.regularizers.L2(0.5))
    layer = kseq.layers.RNN(cell)
    layer.build(X.shape)
    np.testing.assert_allclose(float(sum(layer.losses)), 0.5 * UNITS)


def test_before_it_has_weights_it_says_so():
    with pytest.raises(ValueError, match="has no initial state before it has weights"):
        kseq.cells.LearnedStateCell(kseq.cells.GRUCell(UNITS)).get_initial_state(2)
