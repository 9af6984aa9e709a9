"""`dropout` and `recurrent_dropout` of cells that Keras has too: the engine drops the same units as Keras."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import mask_from_lengths
from tests.support import assert_all_close, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
X = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")
OPTIONS = [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.5}]
CASES = [(kind, options) for kind in ("SimpleRNN", "GRU", "LSTM") for options in OPTIONS]


def pair(kind, **options):
    """Keras's cell in Keras's loop and ours in ours, with the same weights and seed."""
    layers = [
        library.layers.RNN(getattr(library.layers if library is keras else library.cells, f"{kind}Cell")(
            4, seed=3, **options), return_sequences=True, return_state=True)
        for library in (keras, kseq)
    ]  # fmt: skip
    for layer in layers:
        layer.build(X.shape)
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape) / 2 for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize(("kind", "options"), [*CASES, ("GRU", {"dropout": 0.4, "implementation": 1})], ids=str)
def test_the_same_units_are_dropped_as_in_keras(kind, options):
    mask = mask_from_lengths(np.array([6, 3, 1]), 6)
    theirs, ours = pair(kind, **options)
    expected, got = (outputs_and_gradients(layer, X, mask=mask, training=True) for layer in (theirs, ours))
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)
    still, dropped = ours(X)[0], got[0][0]
    assert not np.allclose(still, dropped)


@pytest.mark.long_on_jax
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_a_rate_of_one_drops_everything(kind):
    layer = pair(kind, dropout=1.0, recurrent_dropout=1.0)[1]
    outputs, gradients = outputs_and_gradients(layer, X, training=True)
    np.testing.assert_array_equal(gradients[0], 0 * X)
    for kernel in (layer.cell.kernel, layer.cell.recurrent_kernel):
        kernel.assign(0 * kernel)
    assert_all_close(outputs, outputs_and_gradients(layer, X)[0], atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_it_goes_by_the_engine(kind, options, monkeypatch):
    calls = []
    engine = kseq.engine.runner.Recurrence
    monkeypatch.setattr(kseq.engine.runner, "Recurrence", lambda *a, **o: calls.append(1) or engine(*a, **o))
    pair(kind, **options)[1](X, training=True)
    assert len(calls) == 1


@pytest.mark.long_on_jax
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_own_gradients_equal_automatic_ones(kind, monkeypatch):
    own, automatic = (pair(kind, dropout=0.3, recurrent_dropout=0.5)[1] for _ in range(2))
    got = outputs_and_gradients(own, X, training=True)
    engine = kseq.engine.runner.Recurrence
    monkeypatch.setattr(
        kseq.engine.runner,
        "Recurrence",
        lambda e, *a, **o: engine(e._replace(gates_gradient=None, recur_gradient=None), *a, **o),
    )
    expected = outputs_and_gradients(automatic, X, training=True)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)
