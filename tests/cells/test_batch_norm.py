"""BatchNormCell: its statistics, its moving averages, and the effect of padding on them."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import mask_from_lengths
from tests.reference import recurrence as twins
from tests.reference.wrapper_cells import batch_norm
from tests.support import BACKEND, assert_all_close

BATCH, TIME, FEATURES, UNITS, EPSILON = 3, 6, 5, 4, 0.01
LENGTHS = np.array([6, 3, 1])
MASK = np.asarray(mask_from_lengths(LENGTHS, TIME))
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")


def make(wrap=lambda cell: cell):
    cell = kseq.cells.BatchNormCell(wrap(kseq.cells.LSTMCell(UNITS)), momentum=0.9, epsilon=EPSILON)
    layer = kseq.layers.RNN(cell, return_sequences=True)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape) / 2)
    return layer


def weights(layer):
    """The inner cell's kernel, recurrent kernel and bias, and gamma."""
    names = ["kernel", "recurrent_kernel", "bias", "gamma"]
    return [next(np.asarray(w) for w in layer.trainable_weights if w.name == name) for name in names]


def run_twin(projected, layer):
    """The outputs of an LSTM for projected inputs without bias."""
    _, recurrent_kernel, bias, _ = weights(layer)
    identity = np.eye(4 * UNITS)
    state = tuple(np.zeros((BATCH, UNITS)) for _ in range(2))
    return twins.run(twins.lstm_step, projected, LENGTHS, state, (identity, recurrent_kernel, bias))[0]


def averages(layer):
    cell = layer.cell.normalization
    return np.asarray(cell.moving_mean), np.asarray(cell.moving_variance)


def test_training_takes_the_statistics_of_all_real_steps():
    layer = make()
    kernel, _, _, gamma = weights(layer)
    normalized, mean, variance = batch_norm(X @ kernel, MASK, gamma, EPSILON)
    outputs = np.where(MASK[..., None], layer(X, mask=MASK, training=True), 0)
    np.testing.assert_allclose(outputs, run_twin(normalized, layer), atol=1e-5)
    moving_mean, moving_variance = averages(layer)
    np.testing.assert_allclose(moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(moving_variance, 0.9 + 0.1 * variance, atol=1e-5)


def test_inference_takes_the_moving_averages():
    layer = make()
    layer(X, training=True)
    mean, variance = averages(layer)
    kernel, _, _, gamma = weights(layer)
    outputs = np.where(MASK[..., None], layer(X, mask=MASK), 0)
    expected = run_twin(gamma * (X @ kernel - mean) / np.sqrt(variance + EPSILON), layer)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_array_equal(averages(layer), (mean, variance))


@pytest.mark.parametrize("rubbish", [np.nan, 1e6])
def test_padding_does_not_change_the_averages(rubbish):
    clean, dirty = make(), make()
    clean(X, mask=MASK, training=True)
    dirty(np.where(MASK[..., None], X, rubbish), mask=MASK, training=True)
    assert_all_close(averages(dirty), averages(clean), atol=0, rtol=0)


def test_the_bias_keeps_its_meaning():
    """Constant inputs are normalised to zero, so only the bias remains: here the forget gates' one."""
    layer = kseq.layers.RNN(kseq.cells.BatchNormCell(kseq.cells.LSTMCell(UNITS)), return_state=True)
    x = np.ones((BATCH, 1, FEATURES), "float32")
    memory = [np.zeros((BATCH, UNITS), "float32"), np.ones((BATCH, UNITS), "float32")]
    _, _, memory = layer(x, initial_state=memory, training=True)
    np.testing.assert_allclose(memory, 1 / (1 + np.exp(-1)), atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda cell: kseq.cells.ZoneoutCell(cell, 0.2), lambda cell: kseq.cells.DropoutCell(
    cell, 0.2, 0.2)], ids=["zoneout", "dropout"])  # fmt: skip
def test_around_other_wrappers(wrap):
    layer, plain = make(wrap), make()
    plain.set_weights([np.asarray(w) for w in layer.weights])
    if isinstance(layer.cell.cell, kseq.cells.DropoutCell):
        np.testing.assert_allclose(layer(X), plain(X), atol=1e-6)
    else:  # zoneout acts on the states, not on the statistics
        layer(X, training=True)
        plain(X, training=True)
        assert_all_close(averages(layer), averages(plain), atol=1e-6)


@pytest.mark.long
@pytest.mark.every_backend
def test_averages_learn_in_fit():
    layer = make()
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer])
    model.compile("sgd", "mse", jit_compile=BACKEND == "tensorflow")
    before = averages(layer)
    model.fit(X, np.zeros((BATCH, TIME, UNITS)), epochs=1, verbose=0)
    after = averages(layer)
    assert all(np.any(a != b) and np.isfinite(a).all() for a, b in zip(after, before, strict=True))
    assert len(layer.non_trainable_weights) == 2


def test_a_frozen_cell_uses_and_keeps_its_averages():
    layer = make()
    layer(X, training=True)
    layer.trainable = False
    before = averages(layer)
    np.testing.assert_allclose(layer(X, training=True), layer(X), atol=1e-6)
    np.testing.assert_array_equal(averages(layer), before)


def test_a_cell_that_cannot_be_taken_apart_is_refused():
    with pytest.raises(ValueError, match="GRUCell is not run through project, recur and gates"):
        kseq.cells.BatchNormCell(kseq.cells.GRUCell(UNITS, reset_after=False))


def test_normalised_twice_the_bias_is_still_the_cells_own():
    """Of inputs of zero the projection is the bias; each normalisation moves it by its mean, not by the other's."""
    twice = kseq.layers.RNN(kseq.cells.BatchNormCell(kseq.cells.BatchNormCell(kseq.cells.SimpleRNNCell(4))))
    plain = kseq.layers.RNN(kseq.cells.SimpleRNNCell(4))
    x = np.zeros((2, 3, 5), "float32")
    twice(x), plain(x)
    outer, inner = twice.cell, twice.cell.cell
    means = np.random.default_rng(0).normal(size=(2, 4))
    for cell, mean in zip((inner, outer), means, strict=True):
        cell.normalization.moving_mean.assign(mean)
    bias, scale = np.float32([0.5, -1.0, 2.0, 0.1]), np.sqrt(1.0 + outer.epsilon)
    inner.cell.bias.assign(bias)
    plain.cell.bias.assign(bias + (-means[0] / scale - means[1]) / scale)
    plain.cell.recurrent_kernel.assign(inner.cell.recurrent_kernel)
    np.testing.assert_allclose(twice(x), plain(x), atol=1e-6)
