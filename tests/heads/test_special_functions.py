"""Special functions and heads at parameters where a plain formula loses all digits of float32."""

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kseq
from kseq.heads.special_functions import log_beta
from tests.support import gradient


def test_log_beta_has_all_digits():
    a, b = (each.ravel().astype("float32") for each in np.meshgrid(*[[0.01, 0.5, 3.0, 7.9, 8.1, 40.0, 1e4, 1e6]] * 2))
    expected = special.betaln(a.astype("float64"), b.astype("float64"))
    np.testing.assert_allclose(log_beta(a, b), expected, rtol=3e-6, atol=3e-6)
    found = gradient(lambda a: ops.sum(log_beta(a, b)), a)[0]
    exact = special.digamma(a.astype("float64")) - special.digamma(a.astype("float64") + b)
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=1e-5)


def test_counts_with_almost_no_dispersion_and_large_means():
    head, counts = kseq.heads.NegativeBinomial(), np.array([0.0, 3.0, 1000.0, 5100.0, 90000.0], "float32")
    parameters = kseq.heads.NegativeBinomialParameters(
        np.array([0.01, 3.0, 900.0, 5000.0, 1e5], "float32"), np.array([5.0, 1e-5, 1e-3, 1e-6, 0.2], "float32")
    )
    mean, count = parameters.mean.astype("float64"), 1.0 / parameters.dispersion.astype("float64")
    twin = stats.nbinom(count, count / (count + mean))
    np.testing.assert_allclose(head.log_probability(parameters, counts), twin.logpmf(counts), rtol=2e-4, atol=2e-3)
    for level in (0.001, 0.5, 0.99):
        np.testing.assert_allclose(head.quantile(parameters, level), twin.ppf(level), rtol=2e-3)


MEANS = np.array([0.01, 0.7, 6.0, 40.0, 3000.0], "float32")
COUNTS = kseq.heads.NegativeBinomialParameters(*np.meshgrid(MEANS, np.array([1e-9, 1e-7, 1e-5, 1e-3, 0.1], "float32")))


def counts_at(distance):
    """Return mean and dispersion in float64, and counts `distance` standard deviations from the mean."""
    mean, dispersion = (each.astype("float64") for each in COUNTS)
    return mean, dispersion, np.maximum(np.floor(mean + distance * np.sqrt(mean + dispersion * mean**2)), 0.0)


@pytest.mark.parametrize("distance", [-1.5, 0.0, 2.0])
def test_log_probabilities_of_counts_from_no_dispersion_on(distance):
    """Of Poisson's distribution at first; scipy's negative binomial loses digits below dispersions of 1e-6."""
    head, (mean, dispersion, counts) = kseq.heads.NegativeBinomial(), counts_at(distance)
    expected = log_probabilities(mean, dispersion, counts)
    np.testing.assert_allclose(head.log_probability(COUNTS, counts), expected, rtol=2e-6, atol=3e-6)
    found = gradient(lambda m, d: ops.sum(head.log_probability(type(COUNTS)(m, d), counts)), *map(np.array, COUNTS))
    np.testing.assert_allclose(found[0], (counts - mean) / (mean * (1 + dispersion * mean)), rtol=1e-4, atol=1e-5)
    step = dispersion * 1e-3 + 1e-10
    slope = [log_probabilities(mean, dispersion + sign * step, counts) for sign in (1, -1)]
    scale = 1 + np.abs(counts**2 - mean)  # the size of the terms of which the slope is the sum
    assert (np.abs(found[1] - (slope[0] - slope[1]) / (2 * step)) < 1e-4 * scale).all()


@pytest.mark.long_on_jax
def test_cumulative_probabilities_of_counts_from_no_dispersion_on():
    head = kseq.heads.NegativeBinomial()
    for distance in (-1.5, 2.0):
        mean, dispersion, counts = counts_at(distance)
        expected = special.betainc(1 / dispersion, counts + 1, 1 / (1 + dispersion * mean))
        np.testing.assert_allclose(head.cdf(COUNTS, counts), expected, rtol=1e-5, atol=4e-6)
    expected = stats.poisson(mean[:2]).ppf(0.4)
    np.testing.assert_allclose(head.quantile(COUNTS, 0.4)[:2], expected, atol=1e-3, rtol=1e-3)


def test_samples_of_counts_without_dispersion():
    many = type(COUNTS)(np.full(4000, 6.0, "float32"), np.full(4000, 1e-9, "float32"))
    samples = np.asarray(kseq.heads.NegativeBinomial().sample(many, 3))
    assert abs(samples.mean() - 6.0) < 4 * np.sqrt(6 / 4000)
    assert abs(samples.var() - 6.0) < 0.5


def log_probabilities(mean, dispersion, counts):
    """Return those of counts by their product: (1 + d) (1 + 2 d) ... / count! of `mean`s, in float64."""
    rising = np.vectorize(lambda d, count: np.log1p(d * np.arange(count)).sum())(dispersion, counts)
    scale = -counts * np.log1p(dispersion * mean) - np.log1p(dispersion * mean) / dispersion
    return rising + counts * np.log(mean) - special.gammaln(counts + 1) + scale


@pytest.mark.long
@pytest.mark.long_on_jax
def test_quantiles_of_the_smallest_probabilities():
    levels = np.array([1e-30, 1e-20, 1e-12, 1e-8, 1e-4, 0.05, 0.3, 0.5, 0.9, 0.9999], "float32")
    exact, one = levels.astype("float64"), np.float32(1.0)
    zero = np.float32(0.0)
    for head, parameters, twin in (
        (kseq.heads.Normal(), kseq.heads.NormalParameters(zero, one), stats.norm()),
        (kseq.heads.Laplace(), kseq.heads.LaplaceParameters(zero, one), stats.laplace()),
        (kseq.heads.StudentT(), kseq.heads.StudentTParameters(zero, one, np.float32(2.1)), stats.t(np.float32(2.1))),
        (kseq.heads.StudentT(), kseq.heads.StudentTParameters(zero, one, np.float32(60)), stats.t(60)),
    ):
        np.testing.assert_allclose(head.quantile(parameters, levels), twin.ppf(exact), rtol=5e-6, atol=1e-6)


@pytest.mark.long
def test_far_tails_of_student_t():
    head, levels = kseq.heads.StudentT(), np.array([1e-5, 0.001, 0.4999, 0.5, 0.9, 0.9999], "float32")
    for freedom in (2.0001, 3.0, 50.0, 1e4):
        parameters = kseq.heads.StudentTParameters(np.float32(0.0), np.float32(1.0), np.float32(freedom))
        expected = stats.t(np.float32(freedom)).ppf(levels.astype("float64"))
        np.testing.assert_allclose(head.quantile(parameters, levels), expected, rtol=1e-3, atol=1e-5)


def test_what_is_searched_refuses_a_gradient():
    head = kseq.heads.StudentT()
    with pytest.raises((NotImplementedError, ValueError), match=r"has no gradient|Reverse-mode"):
        gradient(lambda x: ops.sum(head.quantile(head.parameters(x), 0.9)), np.zeros((2, 3), "float32"))
    with pytest.raises(NotImplementedError, match="Train with log_probability"):
        gradient(lambda x: ops.sum(head.cdf(head.parameters(x), np.ones(2))), np.zeros((2, 3), "float32"))


@pytest.mark.long_on_jax
def test_samples_are_the_same_on_every_backend():
    mixture = kseq.heads.Mixture([kseq.heads.Normal(), kseq.heads.StudentT()])
    for head, expected in (
        (kseq.heads.Normal(), [-0.2646, -0.1164]),
        (kseq.heads.StudentT(), [0.1871, -0.4666]),
        (kseq.heads.Bernoulli(3), [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]),
        (mixture, [0.5219, -0.3186]),
    ):
        samples = head.sample(head.parameters(np.zeros((1, 2, head.size))), 7)
        np.testing.assert_allclose(np.ravel(samples), expected, atol=1e-4)
