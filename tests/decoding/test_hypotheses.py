"""The selection of the best continuations."""

import numpy as np
import pytest

from kseq.backend import compiled
from kseq.decoding.decoding import LOG_ZERO
from kseq.decoding.hypotheses import largest


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(3, 1, 5), (2, 4, 1), (2, 4, 7), (3, 2, 256), (2, 4, 1003), (1, 8, 300)])
@pytest.mark.parametrize("values", [3, 50, 100_000], ids=lambda n: f"{n} values")
def test_the_largest_are_those_of_a_stable_sort(shape, values):
    """Of few different values most are equal: then the lower hypothesis, and of one hypothesis the lower token."""
    random = np.random.default_rng(values)
    ranks = -random.integers(values, size=shape).astype("float32")
    ranks[0, -1] = LOG_ZERO
    flat = ranks.reshape(shape[0], -1)
    expected = np.argsort(-flat, axis=1, kind="stable")[:, : shape[1]]
    for function in (largest, compiled(largest)):
        kept, hypotheses, tokens = (np.asarray(x) for x in function(ranks))
        np.testing.assert_array_equal(hypotheses * shape[2] + tokens, expected)
        np.testing.assert_array_equal(kept, np.take_along_axis(flat, expected, axis=1))
        assert (tokens < shape[2]).all()
