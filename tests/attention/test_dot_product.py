"""Dot-product attention, compared with its NumPy reference."""

import numpy as np
import pytest

from kseq.attention import DotProductAttention
from tests.reference import attention as twin

RANDOM = np.random.default_rng(4)
QUERIES = RANDOM.normal(size=(2, 3, 4)).astype("float32")
VALUES = RANDOM.normal(size=(2, 5, 4)).astype("float32")
WIDER = RANDOM.normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)


@pytest.mark.every_backend
@pytest.mark.parametrize("scale", [True, False])
def test_equals_the_numpy_twin(scale):
    layer = DotProductAttention(scale=scale)
    context, weights, _ = layer(QUERIES, layer.memory(VALUES, MASK))
    expected = twin.attend(lambda q, v: twin.dot_product_score(q, v, scale=scale), QUERIES, VALUES, MASK)
    np.testing.assert_allclose(context, expected[0], atol=1e-5)
    np.testing.assert_allclose(weights, expected[1], atol=1e-6)


@pytest.mark.parametrize("units", [None, 4])
def test_general_puts_a_matrix_between(units):
    layer = DotProductAttention(scale=False, general=True, units=units)
    layer.build(QUERIES.shape, WIDER.shape)
    context, weights, _ = layer(QUERIES, layer.memory(WIDER, MASK))
    (kernel,) = layer.get_weights()
    assert kernel.shape == (6, 4)
    expected = twin.attend(lambda q, v: twin.dot_product_score(q, v, scale=False, kernel=kernel), QUERIES, WIDER, MASK)
    np.testing.assert_allclose(context, expected[0], atol=1e-5)
    np.testing.assert_allclose(weights, expected[1], atol=1e-6)


def test_general_with_units_prepares_a_memory_before_it_is_built():
    layer = DotProductAttention(general=True, units=4)
    memory = layer.memory(WIDER, MASK)
    assert memory.keys.shape == (2, 5, 4)
    assert layer(QUERIES, memory)[0].shape == (2, 3, 6)


def test_general_without_units_says_that_memory_came_too_early():
    with pytest.raises(ValueError, match="before the query's size was known"):
        DotProductAttention(general=True).memory(WIDER)


def test_sizes_that_differ_need_general():
    layer = DotProductAttention()
    with pytest.raises(ValueError, match=r"query of size 4 with keys of size 6\. general=True"):
        layer(QUERIES, layer.memory(WIDER))


def test_units_must_be_the_querys_size():
    with pytest.raises(ValueError, match=r"query of size 4 with keys of size 5\. Give units the query's size"):
        DotProductAttention(general=True, units=5).build(QUERIES.shape, WIDER.shape)


def test_units_are_of_the_matrix():
    with pytest.raises(ValueError, match="units=4 only with general=True"):
        DotProductAttention(units=4)


@pytest.mark.every_backend
def test_large_products_stay_finite_in_float16():
    layer = DotProductAttention(dtype="float16")
    query = np.full((1, 64), 60.0, "float16")
    _, weights, _ = layer(query, layer.memory(np.full((1, 3, 64), 60.0, "float16")))
    np.testing.assert_allclose(weights, np.full((1, 3), 1 / 3), atol=1e-3)


@pytest.mark.parametrize("option", [{"kernel_initializer": "ones"}, {"kernel_regularizer": "l2"}])
def test_options_of_a_matrix_need_one(option):
    with pytest.raises(ValueError, match="only with general=True"):
        DotProductAttention(**option)
    layer = DotProductAttention.from_config(DotProductAttention(general=True, **option).get_config())
    assert layer.general
