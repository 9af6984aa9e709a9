"""MinGRUCell against its NumPy twin."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.cells.twins import assert_equals_twin_in_blocks
from tests.reference import linear_recurrence as twins
from tests.support import gradient


def positive(x):
    return np.where(x >= 0.0, x + 0.5, 1.0 / (1.0 + np.exp(-x)))


@pytest.mark.parametrize(
    ("activation", "twin"), [(None, lambda n: n), ("tanh", np.tanh), (kseq.cells.positive, positive)]
)
def test_equals_its_numpy_twin(activation, twin):
    assert_equals_twin_in_blocks(
        kseq.cells.MinGRUCell(4, activation=activation), functools.partial(twins.min_gru_step, activation=twin)
    )


def test_positive_is_positive_continuous_and_growing():
    x = np.linspace(-30.0, 30.0, 2001).astype("float32")
    values = np.asarray(kseq.cells.positive(ops.convert_to_tensor(x)))
    assert (values > 0.0).all()
    assert (np.diff(values) > 0.0).all()
    np.testing.assert_allclose(kseq.cells.positive(np.array([-1e-6, 0.0, 1.0, 1e30])), [0.5, 0.5, 1.5, 1e30], atol=1e-6)
    (slope,) = gradient(lambda x: ops.sum(kseq.cells.positive(x)), np.array([-1e4, 1e4], "float32"))
    np.testing.assert_allclose(slope, [0.0, 1.0])
    assert keras.activations.get(keras.activations.serialize(kseq.cells.positive)) is kseq.cells.positive
