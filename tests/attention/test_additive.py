"""Additive attention, compared with its NumPy reference."""

import numpy as np
import pytest

from kseq.attention import AdditiveAttention, BahdanauAttention
from tests.reference import attention as twin

RANDOM = np.random.default_rng(3)
QUERIES = RANDOM.normal(size=(2, 3, 4)).astype("float32")
VALUES = RANDOM.normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)


@pytest.mark.every_backend
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_numpy_twin(use_bias, normalize):
    layer = AdditiveAttention(7, use_bias=use_bias, normalize=normalize)
    layer.build(QUERIES.shape, VALUES.shape)
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    context, weights, state = layer(QUERIES, layer.memory(VALUES, MASK))

    named = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in layer.weights}
    expected_context, expected_weights = twin.attend(
        lambda query, value: twin.additive_score(
            query,
            value,
            named["query/kernel"],
            named.get("query/bias", 0.0),
            named["memory/kernel"],
            named["v"],
            named.get("gain"),
        ),
        QUERIES,
        VALUES,
        MASK,
    )
    assert state == ()
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    np.testing.assert_allclose(context, expected_context, atol=1e-5)


def test_normalised_score_starts_with_a_gain_of_one_by_root_units():
    layer = AdditiveAttention(16, normalize=True)
    layer.build((None, 4), (None, None, 6))
    assert float(layer.gain.value) == pytest.approx(0.25)


def test_projections_start_with_different_numbers():
    layer = AdditiveAttention(4)
    layer.build((None, 4), (None, None, 4))
    assert not np.allclose(layer.query_layer.kernel.value, layer.memory_layer.kernel.value)


def test_bahdanau_is_another_name():
    assert BahdanauAttention is AdditiveAttention


def test_refuses_no_units():
    with pytest.raises(ValueError, match="units=0, but AdditiveAttention needs a positive int"):
        AdditiveAttention(0)
