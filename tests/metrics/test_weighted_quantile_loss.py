"""The mean weighted quantile loss, against its definition in NumPy."""

import numpy as np
import pytest

import kseq
from tests.support import traced


def numpy_loss(truth, quantiles, levels):
    losses = [
        2 * np.nansum(np.abs((truth - q) * ((truth <= q) - p))) / np.nansum(np.abs(truth))
        for p, q in zip(levels, np.moveaxis(quantiles, -1, 0), strict=True)
    ]
    return np.mean(losses)


@pytest.mark.long_on_jax
def test_is_gluonts_definition_over_batches():
    random, levels = np.random.default_rng(0), (0.1, 0.5, 0.9)
    truth, quantiles = random.normal(size=(5, 4)), np.sort(random.normal(size=(5, 4, 3)))
    truth[1, 2] = np.nan
    metric = kseq.metrics.WeightedQuantileLoss(levels)
    metric.update_state(truth[:2], quantiles[:2])
    history = np.full((3, 6), 7.0)  # before the steps of the forecast
    metric.update_state(np.concatenate([history, truth[2:]], axis=1), quantiles[2:])
    np.testing.assert_allclose(metric.result(), numpy_loss(truth, quantiles, levels), rtol=1e-5)
    by_level = metric.result_by_level()
    np.testing.assert_allclose(by_level[0.9], numpy_loss(truth, quantiles[..., 2:], [0.9]), rtol=1e-5)
    metric.reset_state()
    assert metric.result() == 0
    metric.update_state(truth, quantiles, np.array([1.0, 1.0, 0.0, 0.0, 1.0]))
    rows = [0, 1, 4]
    np.testing.assert_allclose(metric.result(), numpy_loss(truth[rows], quantiles[rows], levels), rtol=1e-5)


def test_without_a_scale_there_is_no_answer():
    metric = kseq.metrics.WeightedQuantileLoss([0.5])
    for forecast in (0.0, 1.0):
        assert np.isnan(metric(np.zeros((2, 1)), np.full((2, 1, 1), forecast)))
    assert np.isnan(metric.result_by_level()[0.5])
    metric.update_state(np.ones((1, 1)), np.zeros((1, 1, 1)))
    assert metric.result() == 3.0
    metric.reset_state()
    metric.update_state(np.full((1, 1), np.nan), np.zeros((1, 1, 1)))  # no value counts
    assert metric.result() == 0.0


def test_runs_in_a_graph_and_refuses_other_shapes():
    metric = kseq.metrics.WeightedQuantileLoss([0.5])
    np.testing.assert_allclose(traced(lambda y, q: metric(y, q))(np.array([[2.0]]), np.array([[[1.0]]])), 0.5)
    with pytest.raises(ValueError, match=r"y_pred \(1, 1, 2\), but expected .* \(batch, steps, 1\)"):
        metric.update_state(np.zeros((1, 1)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="y_true has 1 steps, but the forecast has 2"):
        metric.update_state(np.zeros((1, 1)), np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="levels must be increasing"):
        kseq.metrics.WeightedQuantileLoss([0.9, 0.1])
