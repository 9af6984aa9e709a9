"""Common properties of the cells over linear recurrences: options of the weights, dropout, errors."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import assert_all_close, outputs_and_gradients

CELLS = [kseq.cells.MinGRUCell, kseq.cells.MinLSTMCell, kseq.cells.RGLRUCell]


@pytest.fixture(params=CELLS, ids=lambda cell: cell.__name__)
def cell_class(request):
    return request.param


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, 40, 5)).astype("float32")


def test_the_gradient_does_not_depend_on_what_was_kept(cell_class, x):
    layer = kseq.layers.RNN(cell_class(4), return_sequences=True)
    layer.build(x.shape)
    kept, computed_again = (outputs_and_gradients(layer, x, training=training) for training in (True, False))
    assert_all_close(kept[0] + kept[1], computed_again[0] + computed_again[1], atol=1e-5)


def test_without_bias(cell_class, x):
    with_bias, without = (kseq.layers.RNN(cell_class(4, use_bias=bias)) for bias in (True, False))
    with_bias.build(x.shape)
    without.build(x.shape)
    kernel, bias, *rest = with_bias.get_weights()
    without.set_weights([kernel, *rest])
    np.testing.assert_array_equal(bias, 0.0)
    np.testing.assert_allclose(without(x), with_bias(x), atol=1e-6)


@pytest.mark.parametrize("layer_class", [kseq.layers.RNN, keras.layers.RNN])
def test_dropout_drops_the_same_inputs_at_all_steps(cell_class, layer_class):
    """With the identity as the candidate's kernel and open gates, the state is the input after dropout."""
    cell = cell_class(50, dropout=0.5, seed=3)
    layer = layer_class(cell, return_sequences=True)
    layer.build((None, None, 50))
    kernel = np.zeros((50, 50 * cell.gate_count), "float32")
    kernel[:, -50:] = np.eye(50)
    bias = np.zeros(50 * cell.gate_count, "float32")
    bias[:-50] = 50.0
    if cell_class is kseq.cells.MinLSTMCell:
        bias[:50] = -50.0  # f shut, i open
    cell.kernel.assign(kernel)
    cell.bias.assign(bias)
    if cell_class is kseq.cells.RGLRUCell:
        cell.decay_logit.assign(np.full(50, -50.0))
    outputs = np.asarray(layer(np.ones((2, 6, 50), "float32"), training=True))
    np.testing.assert_allclose(outputs, np.broadcast_to(outputs[:, :1], outputs.shape), atol=1e-5)
    np.testing.assert_allclose(np.unique(outputs.round(4)), [0.0, 2.0])
    assert not np.array_equal(outputs[0], outputs[1])
    again = np.asarray(layer(np.ones((2, 6, 50), "float32"), training=True))
    assert not np.array_equal(outputs, again)
    np.testing.assert_allclose(layer(np.ones((2, 6, 50), "float32")), 1.0, atol=1e-5)


def test_regularizers_and_constraints_reach_the_weights(cell_class, x):
    cell = cell_class(
        4, kernel_regularizer="l2", bias_regularizer="l1", kernel_constraint="non_neg", bias_constraint="non_neg",
        bias_initializer="ones",
    )  # fmt: skip
    layer = kseq.layers.RNN(cell)
    layer(x)
    kernel = np.asarray(cell.kernel)
    np.testing.assert_allclose(
        sum(map(float, layer.losses)), 0.01 * np.sum(kernel**2) + 0.01 * 4 * cell.gate_count, rtol=1e-5
    )
    assert cell.kernel.constraint is not None
    assert cell.bias.constraint is not None


def test_config_keeps_every_argument(cell_class):
    options = {
        "activation": kseq.cells.positive, "use_bias": False, "kernel_initializer": "he_normal",
        "kernel_regularizer": keras.regularizers.L2(0.5), "dropout": 0.25, "seed": 7,
    }  # fmt: skip
    config = cell_class(4, **options).get_config()
    again = cell_class.from_config(config)
    assert again.get_config() == config
    assert again.activation is kseq.cells.positive
    assert (again.use_bias, again.dropout, again.seed) == (False, 0.25, 7)
    assert float(again.kernel_regularizer(ops.ones(()))) == 0.5


def test_one_step_and_two(cell_class, x):
    """Sequences shorter than a chunk."""
    layer = kseq.layers.RNN(cell_class(4), return_sequences=True)
    np.testing.assert_allclose(layer(x[:, :1]), layer(x)[:, :1], atol=1e-6)
    np.testing.assert_allclose(layer(x[:, :2]), layer(x)[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, r"units=0, but \w+Cell needs a positive int"),
        ({"units": 2.5}, r"units=2\.5, but \w+Cell needs a positive int"),
        ({"units": 4, "dropout": 1.5}, r"dropout=1\.5, but for .* it is the share"),
    ],
)
def test_wrong_arguments_are_refused(cell_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        cell_class(**arguments)
