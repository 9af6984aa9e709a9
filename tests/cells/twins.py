"""Comparisons of a cell with its NumPy twin."""

import numpy as np

import kseq
from kseq.masking import mask_from_lengths
from tests.reference import recurrence as twins
from tests.support import assert_all_close

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
LENGTHS = np.array([6, 3, 0])
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
# For recurrences that are computed in blocks of steps.
LONG_TIME, LONG_LENGTHS = 21, np.array([21, 6, 0])
LONG_X = np.random.default_rng(0).normal(size=(BATCH, LONG_TIME, FEATURES)).astype("float32")


def random_layer(cell, **options):
    """The cell in a layer that returns all outputs and states, with random weights."""
    layer = kseq.layers.RNN(cell, return_sequences=True, return_state=True, **options)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape) / 2 for w in layer.get_weights()])
    return layer


def assert_equals_twin(cell, step, x=X, lengths=LENGTHS, atol=1e-6):
    """Outputs and final states for rows of several lengths, from a given initial state."""
    layer = random_layer(cell, zero_output_for_mask=True)
    random = np.random.default_rng(2)
    state = [random.normal(size=(BATCH, units)).astype("float32") for units in layer.state_size]
    outputs, *final = layer(x, mask=mask_from_lengths(lengths, x.shape[1]), initial_state=state)
    expected, expected_final = twins.run(step, x, lengths, state, layer.get_weights())
    np.testing.assert_allclose(outputs, expected, atol=atol)
    assert_all_close([np.asarray(f) for f in final], expected_final, atol=atol)


def assert_equals_twin_in_blocks(cell, step):
    """The same for a cell of a linear recurrence, whose blocks add in another order than the twin's steps."""
    assert_equals_twin(cell, step, LONG_X, LONG_LENGTHS, atol=1e-5)
