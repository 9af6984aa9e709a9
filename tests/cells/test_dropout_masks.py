"""Dropout masks belong to one call: concurrent threads, and layers that share a cell, have separate masks."""

import threading

import keras
import numpy as np
import pytest

import kseq
from tests.support import outputs_and_gradients

CELLS = {
    "LSTM": lambda: kseq.cells.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=3),
    "mask for each gate": lambda: kseq.cells.GRUCell(4, dropout=0.5, implementation=1, seed=3),
    "MinGRU": lambda: kseq.cells.MinGRUCell(4, dropout=0.5, seed=3),
    "wrapper": lambda: kseq.cells.DropoutCell(kseq.cells.LSTMCell(4), 0.3, 0.3, 0.3, seed=3),
}
LAYERS = {"kseq": kseq.layers.RNN, "Keras": keras.layers.RNN}


@pytest.fixture(params=CELLS)
def cell(request):
    return CELLS[request.param]()


def step(cell):
    return np.asarray(cell(np.ones((2, 5), "float32"), cell.get_initial_state(2), training=True)[0])


def forget(cell):
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()


@pytest.mark.long_on_jax
@pytest.mark.parametrize("layer_class", LAYERS.values(), ids=LAYERS)
def test_threads_do_not_use_each_others_masks(cell, layer_class):
    """One thread trains while the other is within a sequence of another batch size: a wrong mask would not fit."""
    layer = layer_class(cell, return_sequences=True)
    layer.build((None, 3, 5))
    first, trained = step(cell), []
    x = np.random.default_rng(0).normal(size=(3, 3, 5)).astype("float32")
    thread = threading.Thread(target=lambda: trained.append(outputs_and_gradients(layer, x, training=True)))
    thread.start()
    thread.join()
    assert len(trained) == 1, "the other thread has failed"
    np.testing.assert_array_equal(step(cell), first)
    forget(cell)


def test_a_layers_call_leaves_a_sequence_that_is_stepped_by_hand_as_it_is(cell):
    layer = kseq.layers.RNN(cell)
    layer.build((None, None, 5))
    first = step(cell)
    layer(np.ones((3, 4, 5), "float32"), training=True)
    np.testing.assert_array_equal(step(cell), first)
    forget(cell)
    assert not np.array_equal(step(cell), first)
    forget(cell)


def test_layers_that_share_a_cell_keep_their_own():
    """Also if one layer runs within a step of the other, whose mask then stays the same at all steps."""
    cell = kseq.cells.SimpleRNNCell(5, activation=None, kernel_initializer="identity", dropout=0.5, seed=3)
    inner = kseq.layers.RNN(cell)
    inner.build((None, None, 5))

    class AroundCell(keras.layers.Layer):
        state_size = 5

        def call(self, inputs, states, training=False):
            inner(inputs[:, None], training=training)
            return cell(inputs, [states[0]], training=training)[0], states

    outputs = np.asarray(kseq.layers.RNN(AroundCell(), return_sequences=True)(np.ones((9, 3, 5)), training=True))
    assert set(np.unique(outputs)) == {0.0, 2.0}
    np.testing.assert_array_equal(outputs, np.repeat(outputs[:, :1], 3, axis=1))
