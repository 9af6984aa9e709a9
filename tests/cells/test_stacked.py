"""StackedCells against consecutive layers, and against Keras's stack of the same cells."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import mask_from_lengths
from tests.support import assert_all_close, outputs_and_gradients

BATCH, TIME, FEATURES = 3, 6, 5
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
MASK = mask_from_lengths(np.array([6, 3, 1]), TIME)
OPTIONS = {"return_sequences": True, "return_state": True}


def cells(library=kseq.cells, **options):
    return [library.LSTMCell(4, **options), library.GRUCell(3, **options), library.LSTMCell(2, **options)]


def randomly_weighted(*layers):
    random = np.random.default_rng(1)
    for layer in layers:
        layer.build(X.shape)
    weights = [random.normal(size=w.shape) / 2 for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.long_on_jax
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_layers_one_after_the_other(masked):
    (stack,) = randomly_weighted(kseq.layers.RNN(kseq.cells.StackedCells(cells()), **OPTIONS))
    mask = MASK if masked else None
    outputs, *final = stack(X, mask=mask)
    values, states = X, []
    for cell in stack.cell.cells:
        values, *own = kseq.layers.RNN(cell, **OPTIONS)(values, mask=mask)
        states += own
    assert_all_close(list(map(np.asarray, [outputs, *final])), list(map(np.asarray, [values, *states])), atol=1e-6)


def test_it_equals_keras_stack_of_keras_cells():
    """Same weights in the same order; Keras nests the states by cell."""
    ours, theirs = kseq.layers.RNN(cells(), **OPTIONS), keras.layers.RNN(cells(keras.layers), **OPTIONS)
    assert isinstance(ours.cell, kseq.cells.StackedCells)
    randomly_weighted(theirs, ours)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    got, expected = (outputs_and_gradients(layer, X, training=True) for layer in (ours, theirs))
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


def test_each_cell_goes_by_the_engine(monkeypatch):
    calls = []
    engine = kseq.engine.runner.Recurrence
    monkeypatch.setattr(kseq.engine.runner, "Recurrence", lambda *a, **o: calls.append(1) or engine(*a, **o))
    kseq.layers.RNN(cells())(X, training=True)
    assert len(calls) == 3


def test_the_last_output_alone():
    sequences, last = randomly_weighted(kseq.layers.RNN(cells(), return_sequences=True), kseq.layers.RNN(cells()))
    got, expected = outputs_and_gradients(last, X, mask=MASK), np.asarray(sequences(X, mask=MASK))[:, -1]
    np.testing.assert_allclose(got[0][0], expected, atol=1e-6)


def test_given_states_and_no_steps():
    layer = kseq.layers.RNN(cells(), **OPTIONS)
    state = [np.full((BATCH, size), place / 10, "float32") for place, size in enumerate(layer.state_size)]
    outputs, *final = layer(X, initial_state=state, mask=np.zeros((BATCH, TIME), bool))
    assert np.all(np.asarray(outputs) == 0)
    assert_all_close([np.asarray(f) for f in final], state, atol=0)
    with pytest.raises(ValueError, match="initial_state has 2 tensors, but StackedCells has 5 states"):
        layer(X, initial_state=state[:2])


@pytest.mark.parametrize("layer_class", [kseq.layers.RNN, keras.layers.RNN])
def test_stateful(layer_class):
    (whole,) = randomly_weighted(kseq.layers.RNN(cells(), return_sequences=True))
    layer = layer_class(kseq.cells.StackedCells(cells()), return_sequences=True, stateful=True)
    layer.build(X.shape)
    layer.set_weights(whole.get_weights())
    outputs = np.asarray(whole(X))
    for _ in range(2):
        np.testing.assert_allclose(layer(X[:, :2]), outputs[:, :2], atol=1e-6)
        np.testing.assert_allclose(layer(X[:, 2:]), outputs[:, 2:], atol=1e-6)
        layer.reset_state()


@pytest.mark.parametrize("layer_class", [kseq.layers.RNN, keras.layers.RNN])
def test_dropout_inside_is_drawn_once_for_a_sequence_and_anew_for_the_next(layer_class):
    """The upper cell's output is its input, so an input dropped between the cells shows at each step."""
    upper = kseq.cells.SimpleRNNCell(
        4, activation=None, dropout=0.5, seed=3, kernel_initializer="identity", recurrent_initializer="zeros"
    )
    layer = layer_class(kseq.cells.StackedCells([kseq.cells.LSTMCell(4), upper]), return_sequences=True)
    x = np.random.default_rng(0).normal(size=(16, TIME, FEATURES)).astype("float32")
    zero = [np.asarray(layer(x, training=True)) == 0 for _ in range(2)]
    assert 0 < zero[0].mean() < 1
    assert np.all(zero[0] == zero[0][:, :1])
    assert np.any(zero[0] != zero[1])


def test_a_cell_that_goes_step_by_step():
    layers = [
        kseq.layers.RNN([kseq.cells.LSTMCell(4), kseq.cells.GRUCell(3, reset_after=False)], **OPTIONS),
        keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.GRUCell(3, reset_after=False)], **OPTIONS),
    ]
    randomly_weighted(*layers)
    got, expected = (outputs_and_gradients(layer, X, training=True) for layer in layers)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


def test_lists_with_keras_cells_stay_keras_stacks():
    layer = kseq.layers.RNN([kseq.cells.LSTMCell(4), keras.layers.GRUCell(3)])
    assert type(layer.cell) is keras.layers.StackedRNNCells
    assert layer(X).shape == (BATCH, 3)


def test_a_layer_of_no_cells_is_refused():
    with pytest.raises(ValueError, match="StackedCells got no cell"):
        kseq.layers.RNN([])


def test_wrong_cells_are_refused():
    cell = kseq.cells.LSTMCell(4)
    with pytest.raises(ValueError, match="StackedCells got no cell"):
        kseq.cells.StackedCells([])
    with pytest.raises(ValueError, match=r"StackedCells takes a kseq.cells.Cell, but got <GRUCell"):
        kseq.cells.StackedCells([cell, keras.layers.GRUCell(3)])
    with pytest.raises(ValueError, match=r"Cell 1 of StackedCells, .* is listed twice"):
        kseq.cells.StackedCells([cell, cell])
