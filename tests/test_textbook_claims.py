"""Properties that textbooks claim of recurrent networks, and users rely on."""

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.initializers import forget_gate_lstm, identity_rnn
from tests.reference.recurrence import run, sigmoid
from tests.support import gradient

RANDOM = np.random.default_rng(0)
UNITS, FEATURES = 8, 3


def built(layer):
    layer.build((None, None, FEATURES))
    return layer


@pytest.mark.long
@pytest.mark.parametrize(("forget_bias", "keeps"), [(30.0, True), (0.0, False)])
def test_an_lstm_with_an_open_forget_gate_keeps_its_memory_for_a_thousand_steps(forget_bias, keeps):
    """The memory does not depend on the inputs while the input gate is closed: the constant error carousel."""
    layer = built(kseq.layers.LSTM(UNITS, return_state=True, **forget_gate_lstm(forget_bias)))
    bias = np.array(layer.cell.bias)
    bias[:UNITS] = -30.0  # the input gate
    layer.cell.bias.assign(bias)
    inputs = RANDOM.normal(size=(2, 1000, FEATURES)).astype("float32")
    start = [np.zeros((2, UNITS), "float32"), RANDOM.normal(size=(2, UNITS)).astype("float32")]
    _, _, memory = layer(inputs, initial_state=start)
    if keeps:
        np.testing.assert_allclose(memory, start[1], atol=1e-5)
    else:
        np.testing.assert_allclose(memory, 0.0, atol=1e-5)


DISTANCES = [0, 10, 20, 40, 80]


def gradient_norms(layer, state):
    """The norm of the last output's gradient with respect to the input that many steps before it."""
    inputs = RANDOM.normal(size=(1, 1 + max(DISTANCES), FEATURES)).astype("float32")
    (d_inputs,) = gradient(lambda x: ops.sum(layer(x, initial_state=[state])), inputs)
    return np.linalg.norm(d_inputs[0, ::-1], axis=-1)[DISTANCES]


@pytest.mark.long_on_jax
def test_gradients_of_a_tanh_network_vanish_with_distance():
    """Also with an orthogonal map, all of whose singular values are 1: tanh shrinks the gradient at each step."""
    layer = built(kseq.layers.SimpleRNN(UNITS, recurrent_initializer="orthogonal"))
    norms = gradient_norms(layer, np.zeros((1, UNITS), "float32"))
    assert np.all(norms[1:] < norms[:-1])
    assert 0 < norms[-1] < 1e-6 * norms[0]


def test_gradients_of_an_identity_relu_network_do_not_vanish():
    """Positive units pass the gradient back unchanged, over any distance."""
    layer = built(kseq.layers.SimpleRNN(UNITS, **identity_rnn()))
    norms = gradient_norms(layer, np.ones((1, UNITS), "float32"))
    assert norms[0] > 0
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)


def gru_step_as_published(x, state, kernel, recurrent_kernel, bias, *, reset_after):
    """The GRU of Chung et al. (2014), whose update gate z lets the candidate in: h' = (1 - z) h + z n."""
    (h,) = state
    wz, wr, wn = np.split(kernel, 3, axis=-1)
    uz, ur, un = np.split(recurrent_kernel, 3, axis=-1)
    (bz, br, bn), (cz, cr, cn) = (np.split(row, 3) for row in (bias if reset_after else (bias, 0 * bias)))
    z = sigmoid(x @ wz + bz + h @ uz + cz)
    r = sigmoid(x @ wr + br + h @ ur + cr)
    n = np.tanh(x @ wn + bn + (r * (h @ un + cn) if reset_after else (r * h) @ un))
    return ((1.0 - z) * h + z * n,)


@pytest.mark.parametrize("reset_after", [True, False])
def test_both_published_grus_are_one_function(reset_after):
    """Keras's h' = z h + (1 - z) n is the other with the sign of the update gate's weights and biases changed."""
    layer = built(kseq.layers.GRU(UNITS, reset_after=reset_after, return_sequences=True, return_state=True))
    weights = [RANDOM.normal(size=w.shape) / 2 for w in layer.get_weights()]
    layer.set_weights([np.concatenate([-w[..., :UNITS], w[..., UNITS:]], axis=-1) for w in weights])
    inputs = RANDOM.normal(size=(2, 12, FEATURES)).astype("float32")
    state = RANDOM.normal(size=(2, UNITS)).astype("float32")
    outputs, final = layer(inputs, initial_state=[state])

    def step(*arguments):
        return gru_step_as_published(*arguments, reset_after=reset_after)

    expected, (expected_final,) = run(step, inputs, [12, 12], [state], weights)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(final, expected_final, atol=1e-5)


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_a_masked_step_keeps_the_state(kind):
    """Masked steps at any place have no effect, not only those at the end."""
    layer = built(getattr(kseq.layers, kind)(UNITS, return_sequences=True, return_state=True))
    inputs = RANDOM.normal(size=(1, 7, FEATURES)).astype("float32")
    mask = np.array([[True, True, False, False, True, False, True]])
    outputs, *final = layer(inputs, mask=mask)
    without, *expected = layer(inputs[:, mask[0]])
    np.testing.assert_allclose(np.asarray(outputs)[:, mask[0]], without, atol=1e-6)
    np.testing.assert_array_equal(outputs[:, 2], outputs[:, 1])
    np.testing.assert_array_equal(outputs[:, 3], outputs[:, 1])
    np.testing.assert_array_equal(outputs[:, 5], outputs[:, 4])
    for state, value in zip(final, expected, strict=True):
        np.testing.assert_allclose(state, value, atol=1e-6)
    _, *before = layer(inputs[:, :2])
    _, *after = layer(inputs[:, :4], mask=mask[:, :4])
    for state, value in zip(after, before, strict=True):
        np.testing.assert_allclose(state, value, atol=1e-6)
