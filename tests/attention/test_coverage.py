"""Attention with coverage, compared with the formula of See et al. 2017."""

import numpy as np
import pytest

from kseq.attention import AdditiveAttention, Attention, CoverageAttention
from tests.reference import attention as twin

RANDOM = np.random.default_rng(3)
QUERIES = RANDOM.normal(size=(2, 3, 4)).astype("float32")
VALUES = RANDOM.normal(size=(2, 5, 6)).astype("float32")
LENGTHS = (5, 2)
MASK = np.arange(5) < np.array(LENGTHS)[:, None]


@pytest.mark.every_backend
def test_equals_the_numpy_twin():
    layer = CoverageAttention(AdditiveAttention(7))
    layer.build(QUERIES.shape, VALUES.shape)
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    _, weights, state = layer(QUERIES, layer.memory(VALUES, MASK))
    inner = layer.mechanism
    arguments = (inner.query_layer.kernel, inner.query_layer.bias, inner.memory_layer.kernel, inner.v)
    arguments = [np.asarray(weight) for weight in arguments]
    for row, length in enumerate(LENGTHS):
        expected = twin.attend_by_weights(
            lambda query, value, extra: twin.additive_score(query, value, *arguments, extra=extra),
            QUERIES[row],
            VALUES[row, :length],
            extra=lambda seen: seen[:, None] * np.asarray(layer.coverage_kernel),
            combine=np.add,
        )
        np.testing.assert_allclose(np.asarray(weights)[row, :, :length], expected, atol=1e-6)
        np.testing.assert_allclose(np.asarray(state.coverage)[row, :length], expected.sum(0), atol=1e-6)


def test_refuses_a_mechanism_with_a_context_of_its_own():
    class Own(Attention):
        def read(self, weights, memory, draws):
            return super().read(weights, memory, draws)

    with pytest.raises(ValueError, match="but Own computes its context in a way of its own"):
        CoverageAttention(Own())


def test_a_state_without_its_parts_is_refused():
    layer = CoverageAttention(AdditiveAttention(7))
    assert layer.initial_state(2, 5).mechanism == ()
    with pytest.raises(ValueError, match=r"initial_state\(batch, time\)"):
        layer.initial_state(2)
