"""The cells without a recurrent kernel against their equations, step by step in float64."""

import numpy as np
import pytest
from keras import ops

import kseq
from tests.reference import linear_recurrence as reference
from tests.support import compiled, gradient

TWINS = {"MinGRUCell": reference.min_gru, "MinLSTMCell": reference.min_lstm, "RGLRUCell": reference.rg_lru}


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(2, 40, 5)).astype("float32")


def make(name, **options):
    layer = kseq.layers.RNN(getattr(kseq.cells, name)(4, bias_initializer="normal", **options), return_sequences=True)
    layer.build((None, None, 5))
    return layer


@pytest.mark.parametrize("name", TWINS)
def test_equals_its_equations(name, x):
    layer = make(name)
    weights = [np.asarray(w, "float64") for w in layer.get_weights()]
    if name == "RGLRUCell":
        assert layer.cell.decay_logit.shape == (4,)
    state, expected = np.zeros((2, 4)), []
    for step in x.transpose(1, 0, 2).astype("float64"):
        state = TWINS[name](step, *weights, state)
        expected.append(state)
    np.testing.assert_allclose(layer(x), np.stack(expected, axis=1), atol=1e-5)


def test_decays_begin_in_their_range():
    layer = kseq.layers.RNN(kseq.cells.RGLRUCell(1000, decay_range=(0.9, 0.999)))
    layer.build((None, None, 5))
    decay = (1.0 / (1.0 + np.exp(-np.asarray(layer.cell.decay_logit, "float64")))) ** 8
    assert decay.min() >= 0.9 - 1e-5
    assert decay.max() <= 0.999 + 1e-5
    assert abs(decay.mean() - 0.9495) < 0.005  # of a uniform distribution: 5 standard errors


def test_min_lstm_shares_gates_that_are_both_shut():
    """sigmoid(-200) is zero in float32, but its share of itself and an equal one is a half."""
    layer = make("MinLSTMCell")
    layer.set_weights([np.zeros((5, 12)), np.r_[np.full(8, -200.0), np.ones(4)]])
    np.testing.assert_allclose(layer(np.zeros((1, 1, 5)))[0, 0], 0.5, atol=1e-6)


@pytest.mark.parametrize("name", TWINS)
def test_gradients_reach_over_thousands_of_steps(name):
    """An input at the first step is still felt at the last where the decay is near 1, and nothing overflows."""
    layer = make(name)
    run = compiled(lambda x: layer(x, training=True))
    long = np.random.default_rng(1).normal(size=(1, 3000, 5)).astype("float32")
    assert np.isfinite(np.asarray(run(long))).all()
    (d_inputs,) = gradient(lambda x: ops.sum(ops.square(layer(x, training=True)[:, -1])), long)
    assert np.isfinite(d_inputs).all()
    assert np.abs(d_inputs[0, -1]).max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units=0"),
        ({"units": 4, "dropout": 1.0}, "dropout=1.0"),
        ({"units": 4, "decay_range": (0.9, 0.5)}, "decay_range"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kseq.cells.RGLRUCell(**options)
