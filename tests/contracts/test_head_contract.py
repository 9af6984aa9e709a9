"""The contract of heads: value, gradient, quantiles and samples as scipy's; precision, compilation, wrong values."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops, tree

import kseq
from tests.contracts.heads import HEADS, log_probability
from tests.support import compiled, gradient, traced

SHAPE = (4, 3)
LEVELS = (0.01, 0.3, 0.5, 0.8, 0.999)


@pytest.fixture(params=HEADS)
def case(request):
    return HEADS[request.param]


def outputs_of(head, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, head.size)).astype("float32")


def values_of(head, seed=1):
    drawn = np.random.default_rng(seed).normal(size=(*SHAPE, *head.event_shape)) * 2.0
    low = -np.inf if head.lowest is None else head.lowest
    high = np.inf if head.highest is None else head.highest
    return np.clip(np.round(np.abs(drawn)) if head.whole else drawn, low, high).astype("float32")


def summed(head, values):
    """Return the sum over the labels of a step."""
    return values.sum(axis=head.event_axes) if head.event_shape else values


def test_every_head_has_a_case():
    heads = {each for each in map(kseq.heads.__dict__.get, kseq.heads.__all__) if inspect.isclass(each)}
    heads = {each for each in heads if issubclass(each, kseq.heads.Head)}
    assert heads - {kseq.heads.Head, kseq.heads.Quantiles} == {type(case.head) for case in HEADS.values()}


@pytest.mark.long_on_jax("Normal", "NegativeBinomial")
def test_log_probability_and_its_gradient_are_scipys(case):
    head, outputs, values = case.head, outputs_of(case.head), values_of(case.head)

    def expected(at):
        return summed(head, log_probability(case.twin(at), values.astype("float64")))

    got = head.log_probability(head.parameters(outputs), values)
    np.testing.assert_allclose(got, expected(outputs.astype("float64")), rtol=2e-5, atol=1e-5)
    found = gradient(lambda x: ops.sum(head.log_probability(head.parameters(x), values)), outputs)[0]
    for index in range(head.size):
        step = np.zeros(head.size)
        step[index] = 1e-4  # of float64: the difference is exact to about 1e-8
        difference = (expected(outputs + step) - expected(outputs - step)) / 2e-4
        np.testing.assert_allclose(found[..., index], difference, rtol=2e-3, atol=2e-4)


@pytest.mark.long_on_jax("Normal")
def test_quantiles_and_probabilities_are_scipys(case):
    head, outputs = case.head, outputs_of(case.head)
    parameters, twin = head.parameters(outputs), case.twin(outputs.astype("float64"))
    got = np.asarray(head.quantile(parameters, LEVELS))
    assert got.shape == (*SHAPE, *head.event_shape, len(LEVELS))
    for index, level in enumerate(LEVELS):
        np.testing.assert_allclose(got[..., index], twin.ppf(level), rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(head.quantile(parameters, 0.3), got[..., 1], rtol=2e-4, atol=1e-5)
    values = values_of(head)
    np.testing.assert_allclose(head.cdf(parameters, values), twin.cdf(values), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(head.mean(parameters), twin.mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.every_backend
def test_samples_have_scipys_moments_and_quantiles(case):
    head, count = case.head, 4000
    outputs = np.repeat(outputs_of(head, (1,)), count, axis=0)
    twin = case.twin(outputs[0].astype("float64"))
    samples = np.asarray(traced(lambda x: head.sample(head.parameters(x), 5))(outputs))
    assert samples.shape == (count, *head.event_shape)
    error = twin.std() / np.sqrt(count)
    assert (np.abs(samples.mean(axis=0) - twin.mean()) < 4 * error).all()
    for level in (0.05, 0.5, 0.95):  # an empirical share has a standard error of at most 0.5 / sqrt(count)
        place = twin.ppf(level)
        assert (np.abs((samples <= place).mean(axis=0) - twin.cdf(place)) < 4 * 0.5 / np.sqrt(count)).all()


def test_a_row_alone_gets_the_samples_of_its_seed(case):
    head, outputs = case.head, outputs_of(case.head)
    seeds = np.array([3, 1, 2, 1], "int32")
    samples = np.asarray(head.sample(head.parameters(outputs), seeds))
    alone = head.sample(head.parameters(outputs[2:3]), seeds[2:3])
    np.testing.assert_allclose(alone, samples[2:3], rtol=1e-6)
    assert (np.asarray(head.sample(head.parameters(outputs), seeds + 1)) != samples).any()


@pytest.mark.long
def test_compiled_and_from_half_precision_it_is_the_same(case):
    head, outputs, values = case.head, outputs_of(case.head), values_of(case.head)

    def all_of(outputs):
        parameters = head.parameters(outputs)
        return head.log_probability(parameters, values), head.quantile(parameters, 0.9), head.sample(parameters, 1)

    for got, expected in zip(compiled(all_of)(outputs), all_of(outputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    half = ops.cast(outputs, "bfloat16")
    for got, expected in zip(all_of(half), all_of(ops.cast(half, "float32")), strict=True):
        assert got.dtype == "float32"
        np.testing.assert_array_equal(got, expected)


def test_impossible_values_have_no_probability_and_no_gradient(case):
    head, outputs, values = case.head, outputs_of(case.head), values_of(case.head)
    wrong = values.copy()
    wrong[0], wrong[1] = np.nan, np.inf
    wrong[2] = (-1.0 if head.lowest is not None else np.inf) if not head.whole else 0.5
    got = np.asarray(head.log_probability(head.parameters(outputs), wrong))
    assert np.isnan(got[0]).all()
    assert (got[1:3] == -np.inf).all()
    np.testing.assert_array_equal(got[3], head.log_probability(head.parameters(outputs), values)[3])

    def total(x, of):
        found = head.log_probability(head.parameters(x), of)
        return ops.sum(ops.where(ops.isfinite(found), found, 0.0))

    found = gradient(lambda x: total(x, wrong), outputs)[0]
    assert (found[:3] == 0).all()
    np.testing.assert_allclose(found[3], gradient(lambda x: total(x, values), outputs)[0][3], rtol=1e-5)


def test_values_of_other_shapes_are_refused(case):
    """Of shapes that broadcasting would join to a table of every value under every distribution."""
    head, outputs, values = case.head, outputs_of(case.head, (4,)), values_of(case.head)[:, 0]
    parameters = head.parameters(outputs)
    for wrong in (values[:, None], values[:3], values[None]):
        with pytest.raises(ValueError, match=rf"The values have shape .* have values of shape \(4,{'.*' * 2}\)"):
            head.log_probability(parameters, wrong)
    each = head.log_probability(parameters, values)
    np.testing.assert_allclose(head.log_probability(parameters, values[0])[0], each[0], rtol=1e-6)
    np.testing.assert_allclose(head.log_probability(head.parameters(outputs[0]), values)[0], each[0], rtol=1e-6)


def test_scaled_parameters_are_those_of_scaled_values(case):
    head, outputs = case.head, outputs_of(case.head)
    parameters, scale = head.parameters(outputs), np.float32(3.0)
    if not head.can_scale:
        with pytest.raises(ValueError, match="cannot be scaled"):
            head.scaled(parameters, scale)
        return
    scaled = head.scaled(parameters, ops.full(SHAPE, scale))
    np.testing.assert_allclose(head.mean(scaled), scale * head.mean(parameters), rtol=1e-5)
    if not head.whole:
        quantile = head.quantile(parameters, 0.8)
        np.testing.assert_allclose(head.quantile(scaled, 0.8), scale * quantile, rtol=1e-3, atol=1e-4)


def test_parameters_in_one_tensor_and_in_a_config(case):
    head, outputs = case.head, outputs_of(case.head)
    parameters = head.parameters(outputs)
    stacked = head.stack(parameters)
    assert len(stacked.shape) == 3
    again = head.unstack(stacked)
    assert type(again) is type(parameters)
    for one, other in zip(tree.flatten(again), tree.flatten(parameters), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert loaded == head
    assert loaded.size == head.size


def test_wrong_outputs_and_levels_are_refused(case):
    head = case.head
    with pytest.raises(ValueError, match=rf"needs {head.size} outputs for each value, but .* \(4, {head.size + 1}\)"):
        head.parameters(np.zeros((4, head.size + 1)))
    parameters = head.parameters(outputs_of(head))
    for p in (0.0, 1.0, np.nan, [0.5, 2.0], [[0.5]]):
        with pytest.raises(ValueError, match="p must be a number between 0 and 1"):
            head.quantile(parameters, p)
    unknown = traced(lambda p: head.quantile(parameters, p))
    assert np.isnan(unknown(np.float32(2.0))).all()
    assert np.isfinite(unknown(np.float32(0.5))).all()
