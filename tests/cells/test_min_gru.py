"""MinGRUCell against its NumPy twin."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.masking import mask_from_lengths
from tests.reference import linear_recurrence as twins
from tests.reference.recurrence import run
from tests.support import gradient

LENGTHS = np.array([21, 6, 0])


def positive(x):
    return np.where(x >= 0.0, x + 0.5, 1.0 / (1.0 + np.exp(-x)))


@pytest.mark.parametrize(
    ("activation", "twin"), [(None, lambda n: n), ("tanh", np.tanh), (kseq.cells.positive, positive)]
)
def test_equals_its_numpy_twin(activation, twin):
    layer = kseq.layers.RNN(
        kseq.cells.MinGRUCell(4, activation=activation),
        return_sequences=True, return_state=True, zero_output_for_mask=True,
    )  # fmt: skip
    layer.build((None, None, 5))
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(weights)
    x = random.normal(size=(3, 21, 5)).astype("float32")
    state = random.normal(size=(3, 4)).astype("float32")
    outputs, final = layer(x, mask=mask_from_lengths(LENGTHS, 21), initial_state=[state])
    expected, (expected_final,) = run(
        lambda *arguments: twins.min_gru_step(*arguments, activation=twin), x, LENGTHS, [state], weights
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(final, expected_final, atol=1e-5)


def test_positive_is_positive_continuous_and_growing():
    x = np.linspace(-30.0, 30.0, 2001).astype("float32")
    values = np.asarray(kseq.cells.positive(ops.convert_to_tensor(x)))
    assert (values > 0.0).all()
    assert (np.diff(values) > 0.0).all()
    np.testing.assert_allclose(kseq.cells.positive(np.array([-1e-6, 0.0, 1.0, 1e30])), [0.5, 0.5, 1.5, 1e30], atol=1e-6)
    (slope,) = gradient(lambda x: ops.sum(kseq.cells.positive(x)), np.array([-1e4, 1e4], "float32"))
    np.testing.assert_allclose(slope, [0.0, 1.0])
    assert keras.activations.get(keras.activations.serialize(kseq.cells.positive)) is kseq.cells.positive
