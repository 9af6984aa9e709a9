"""The head of quantiles: its loss, crossing quantiles, and what it cannot do."""

import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import gradient

HEAD = kseq.heads.Quantiles([0.1, 0.5, 0.8])


def test_the_loss_is_the_pinball_loss():
    outputs = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    values = np.array([0.3, -2.0, 0.0, np.nan], "float32")
    error = values[:, None] - outputs
    expected = 2 * np.where(error > 0, error * HEAD.levels, error * (np.array(HEAD.levels) - 1)).mean(axis=1)
    np.testing.assert_allclose(HEAD.loss(HEAD.parameters(outputs), values), expected, rtol=1e-5)
    found = gradient(lambda x: ops.sum(HEAD.loss(HEAD.parameters(x), values)), outputs)[0]
    slope = 2 * np.where(error > 0, -np.array(HEAD.levels), 1 - np.array(HEAD.levels)) / 3
    np.testing.assert_allclose(found, np.where(np.isnan(values)[:, None], 0, slope), rtol=1e-5)


def test_the_best_constants_are_the_quantiles_of_the_data():
    values = np.random.default_rng(0).normal(size=1000).astype("float32")
    best = np.quantile(values, HEAD.levels)
    losses = [float(ops.mean(HEAD.loss(HEAD.parameters(best + shift), values))) for shift in (-0.1, 0.0, 0.1)]
    assert losses[1] < min(losses[0], losses[2])


def test_quantiles_never_cross_and_are_interpolated():
    parameters = HEAD.parameters(np.array([[2.0, 1.0, 4.0]]))
    np.testing.assert_allclose(HEAD.quantile(parameters, [0.1, 0.3, 0.5, 0.8]), [[1.0, 1.5, 2.0, 4.0]], rtol=1e-5)


def test_what_quantiles_do_not_have_is_refused():
    parameters = HEAD.parameters(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"p=0.9, but Quantiles\(levels=.* from 0.1 to 0.8 alone"):
        HEAD.quantile(parameters, 0.9)
    for asked in (lambda: HEAD.sample(parameters, 0), lambda: HEAD.mean(parameters)):
        with pytest.raises(ValueError, match="it is no distribution"):
            asked()
    with pytest.raises(ValueError, match="it is no distribution"):
        HEAD.log_probability(parameters, np.zeros(2))
    for levels in ([], [0.5, 0.1], [0.0, 0.5], [[0.5]], 1.0):
        with pytest.raises(ValueError, match="levels must be increasing numbers between 0 and 1"):
            kseq.heads.Quantiles(levels)


def test_components_of_a_mixture_fit_each_other():
    normal, count = kseq.heads.Normal(), kseq.heads.NegativeBinomial()
    for components in ([], [normal, HEAD], [normal, "Normal"]):
        with pytest.raises(ValueError, match="needs heads that are distributions"):
            kseq.heads.Mixture(components)
    for components in ([normal, count], [kseq.heads.Bernoulli(2), kseq.heads.Bernoulli(3)]):
        with pytest.raises(ValueError, match="values of different kinds"):
            kseq.heads.Mixture(components)
