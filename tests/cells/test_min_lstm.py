"""MinLSTMCell against its NumPy twin, and with sigmoid(f) and sigmoid(i) that are both zero."""

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.masking import mask_from_lengths
from tests.reference import linear_recurrence as twins
from tests.reference.recurrence import run
from tests.support import gradient

LENGTHS = np.array([21, 6, 0])


def test_equals_its_numpy_twin():
    layer = kseq.layers.RNN(
        kseq.cells.MinLSTMCell(4), return_sequences=True, return_state=True, zero_output_for_mask=True
    )
    layer.build((None, None, 5))
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(weights)
    x = random.normal(size=(3, 21, 5)).astype("float32")
    state = random.normal(size=(3, 4)).astype("float32")
    outputs, final = layer(x, mask=mask_from_lengths(LENGTHS, 21), initial_state=[state])
    expected, (expected_final,) = run(twins.min_lstm_step, x, LENGTHS, [state], weights)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(final, expected_final, atol=1e-5)


# f and i, and sigmoid(f) / (sigmoid(f) + sigmoid(i)), which is 1 / (1 + exp(i - f)) where both are far below zero.
SHUT = [(-200.0, -200.0, 0.5), (-200.0, -300.0, 1.0), (-3e4, -200.0, 0.0), (-101.0, -100.0, 0.26894142),
        (-41.0, -40.0, 0.26894142), (-500.0, 3.0, 0.0), (500.0, 500.0, 0.5), (3e4, -3e4, 1.0)]  # fmt: skip


@pytest.mark.every_backend
@pytest.mark.parametrize(("f", "i", "keep"), SHUT)
def test_gates_that_are_shut_share_what_is_one(f, i, keep):
    def coefficients(f, i):
        return kseq.cells.MinLSTMCell(1).coefficients([f, i, ops.ones_like(f)])

    f, i = np.array([[f]], "float32"), np.array([[i]], "float32")
    decay, increment = coefficients(ops.convert_to_tensor(f), ops.convert_to_tensor(i))
    np.testing.assert_allclose(decay, [[keep]], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(increment, [[1.0 - keep]], rtol=1e-5, atol=1e-7)
    d_f, d_i = gradient(lambda f, i: ops.sum(coefficients(f, i)[0]), f, i)
    d_logit = keep * (1.0 - keep)  # of f' with respect to the log of sigmoid(f) / sigmoid(i)
    np.testing.assert_allclose(d_f, [[d_logit * (f[0, 0] < 0.0)]], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(d_i, [[-d_logit * (i[0, 0] < 0.0)]], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_shut_gates_are_no_zero_by_zero_in_half_precision(dtype):
    layer = kseq.layers.RNN(kseq.cells.MinLSTMCell(2, dtype=dtype), return_sequences=True, dtype=dtype)
    layer.build((None, None, 1))
    kernel, bias = layer.get_weights()
    bias[:4] = -120.0  # sigmoid(-120) is zero in all three precisions
    kernel[:, :4] = 0.0
    kernel[:, 4:] = 1.0
    layer.set_weights([kernel, bias])
    outputs = ops.cast(layer(np.ones((1, 30, 1), "float32")), "float32")
    np.testing.assert_allclose(outputs[0, :, 0], 1.0 - 0.5 ** np.arange(1, 31), atol=5e-3)
