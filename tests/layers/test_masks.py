"""Masks behind recurrent layers, with Keras's own layers as they are and as they are from Keras 3.16 on."""

import functools

import keras
import numpy as np
import pytest

import kseq
from kseq.cells import GRUCell, LSTMCell, MinGRUCell, ResidualCell
from kseq.layers import GRU, LSTM, RNN, Bidirectional, DeepRNN, StackedRNN
from tests.support import keras_may_lose_masks

IDS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 0, 0, 0]])
LAYERS = {
    "GRU": lambda: GRU(4, return_sequences=True),
    "LSTM": lambda: LSTM(4, return_sequences=True),
    "RNN of cells": lambda: RNN([LSTMCell(4), ResidualCell(GRUCell(4))], return_sequences=True),
    "RNN without a loop": lambda: RNN(MinGRUCell(4), return_sequences=True),
    "RNN of a Keras cell": lambda: RNN(keras.layers.GRUCell(4), return_sequences=True),
    "StackedRNN": lambda: StackedRNN([GRU(4), LSTM(4)], return_sequences=True, residual=True),
    "StackedRNN of Keras layers": lambda: StackedRNN([keras.layers.GRU(4)], return_sequences=True),
    "DeepRNN": lambda: DeepRNN([GRU(4)], 4, return_sequences=True),
    "Bidirectional": lambda: Bidirectional(GRU(4, return_sequences=True)),
    "Bidirectional RNN": lambda: Bidirectional(RNN(LSTMCell(4), return_sequences=True)),
    "Bidirectional of a Keras layer": lambda: Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
    "Bidirectional StackedRNN": lambda: Bidirectional(StackedRNN([GRU(4)], return_sequences=True), merge_mode="sum"),
}


@pytest.fixture(params=["this Keras", "Keras 3.16"])
def keras_version(request, monkeypatch):
    """Set `supports_masking=False` in the constructors of Keras's layers, as Keras 3.16 does."""
    if request.param == "this Keras":
        return
    for parent in (keras.layers.RNN, keras.layers.Bidirectional):

        @functools.wraps(parent.__init__)
        def constructor(self, *args, original=parent.__init__, **kwargs):
            original(self, *args, **kwargs)
            self.supports_masking = False

        monkeypatch.setattr(parent, "__init__", constructor)


@pytest.mark.parametrize("name", LAYERS)
def test_a_padded_row_equals_the_row_alone(name, keras_version):
    embedding, lower, upper = keras.layers.Embedding(10, 5, mask_zero=True), LAYERS[name](), GRU(4)

    def run(ids):
        return np.asarray(upper(lower(embedding(ids))))

    padded = run(IDS)
    np.testing.assert_allclose(padded[1:], run(IDS[1:, :3]), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["GRU", "Bidirectional"])
def test_ctc_takes_the_lengths_from_the_mask(name, keras_version):
    frames = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    frames[1, 4:] = 0.0
    inputs = keras.Input((None, 3))
    hidden = LAYERS[name]()(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(hidden))
    labels, lengths = (
        np.array([[1, 2], [3, -1]]),
        {"label_lengths": np.array([2, 1]), "logit_lengths": np.array([6, 4])},
    )
    expected = kseq.ctc_loss(labels, np.asarray(model(frames)), **lengths)
    model.compile(loss=kseq.losses.CTC())
    np.testing.assert_allclose(model.evaluate(frames, labels, verbose=0), np.mean(expected), rtol=1e-5)


@keras_may_lose_masks
def test_layers_of_keras_run_behind(keras_version):
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(10, 5, mask_zero=True)(inputs)
    hidden = keras.layers.TimeDistributed(keras.layers.Dense(3))(GRU(4, return_sequences=True)(embedded))
    model = keras.Model(inputs, hidden)
    np.testing.assert_allclose(model(IDS)[1:, :3], model(IDS[1:, :3]), atol=1e-6)
