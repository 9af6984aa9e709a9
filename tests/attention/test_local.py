"""Attention to a window, compared with its definition."""

import numpy as np
import pytest

from kseq.attention import AdditiveAttention, DotProductAttention, LocalAttention, MonotonicAttention
from tests.reference import attention as twin

RANDOM = np.random.default_rng(4)
QUERIES = RANDOM.normal(size=(2, 4, 3)).astype("float32")
VALUES = RANDOM.normal(size=(2, 6, 3)).astype("float32")
LENGTHS = (6, 2)
MASK = np.arange(6) < np.array(LENGTHS)[:, None]


def expected_weights(layer, row, length, place):
    query, values = QUERIES[row, place], VALUES[row, :length]
    steps = np.arange(1, length + 1)
    if layer.position == "monotonic":
        position = min(place + 1, length)
    else:
        kernel, v = (np.asarray(weight) for weight in (layer.position_kernel, layer.position_v))
        position = length / (1 + np.exp(-(v @ np.tanh(query @ kernel))))
    inside = np.abs(steps - position) <= layer.window
    scores = [twin.dot_product_score(query, value, scale=True) for value in values]
    weights = np.zeros(length)
    weights[inside] = twin.softmax(np.array(scores)[inside])
    if layer.position == "predictive":
        weights *= np.exp(-((steps - position) ** 2) / (2 * (layer.window / 2) ** 2))
    return weights


@pytest.mark.long_on_jax
@pytest.mark.parametrize("position", ["monotonic", "predictive"])
def test_equals_the_numpy_twin(position):
    layer = LocalAttention(DotProductAttention(), 1, position)
    _, weights, _ = layer(QUERIES, layer.memory(VALUES, MASK))
    for row, length in enumerate(LENGTHS):
        for place in range(4):
            expected = expected_weights(layer, row, length, place)
            np.testing.assert_allclose(np.asarray(weights)[row, place, :length], expected, atol=1e-6)


def test_a_window_over_the_whole_source_changes_nothing():
    for inner in (AdditiveAttention(5), MonotonicAttention(5, hard=False)):
        layer = LocalAttention(inner, 6)
        _, weights, _ = layer(QUERIES, layer.memory(VALUES, MASK))
        np.testing.assert_allclose(weights, inner(QUERIES, inner.memory(VALUES, MASK))[1], atol=1e-6)


def test_traits_follow_the_inner_mechanism():
    assert LocalAttention(DotProductAttention(), 1, "predictive").stateless
    assert not LocalAttention(MonotonicAttention(3), 1, "predictive").stateless
    assert LocalAttention(DotProductAttention(), 1).normalised
    assert not LocalAttention(MonotonicAttention(3), 1).normalised


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0, but LocalAttention needs a positive int"),
        ({"position": "central"}, "position='central', but LocalAttention has the positions monotonic, predictive"),
        ({"units": 3}, "only with position='predictive'"),
        ({"mechanism": AdditiveAttention(3, dropout=0.5)}, "its mechanism has dropout=0.5. Give the dropout to Local"),
        ({"mechanism": 3}, "takes a mechanism of kseq.attention, such as .*, not 3"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LocalAttention(**{"mechanism": AdditiveAttention(3), "window": 1, **options})
