"""MinLSTMCell against its NumPy twin, and with sigmoid(f) and sigmoid(i) that are both zero."""

import numpy as np
import pytest
from keras import ops

import kseq
from tests.cells.twins import assert_equals_twin_in_blocks
from tests.reference import linear_recurrence as twins
from tests.support import gradient


def test_equals_its_numpy_twin():
    assert_equals_twin_in_blocks(kseq.cells.MinLSTMCell(4), twins.min_lstm_step)


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
