"""The mean absolute scaled error, against its definition in NumPy."""

import numpy as np
import pytest

import kseq


def test_is_the_mean_over_series_of_scaled_errors():
    random, levels = np.random.default_rng(0), (0.1, 0.5, 0.9)
    series, quantiles = random.normal(size=(4, 12)), np.sort(random.normal(size=(4, 3, 3)))
    series[1, 4] = series[2, 10] = np.nan
    error = np.nanmean(np.abs(series[:, 9:] - quantiles[..., 1]), axis=1)
    for season in (1, 4):
        naive = np.nanmean(np.abs(series[:, season:9] - series[:, : 9 - season]), axis=1)
        metric = kseq.metrics.MASE(levels, season=season)
        metric.update_state(series[:1], quantiles[:1])
        metric.update_state(series[1:], quantiles[1:])
        np.testing.assert_allclose(metric.result(), (error / naive).mean(), rtol=1e-5)
    constant = np.concatenate([np.ones((1, 9)), series[:1, 9:]], axis=1)
    metric.update_state(constant, quantiles[:1])
    np.testing.assert_allclose(metric.result(), (error / naive).mean(), rtol=1e-5)
    metric.reset_state()
    metric.update_state(series, quantiles, np.array([1.0, 0.0, 0.0, 3.0]))
    np.testing.assert_allclose(metric.result(), ((error / naive) * [0.25, 0, 0, 0.75]).sum(), rtol=1e-5)


def test_wrong_options_and_too_short_a_history_are_refused():
    with pytest.raises(ValueError, match=r"MASE needs quantiles of level 0.5, but the levels are \(0.1, 0.9\)"):
        kseq.metrics.MASE([0.1, 0.9])
    with pytest.raises(ValueError, match="season=0"):
        kseq.metrics.MASE(season=0)
    with pytest.raises(ValueError, match="a history of more than season=2 steps before the forecast's 3, but it has 2"):
        kseq.metrics.MASE([0.5], season=2).update_state(np.zeros((1, 5)), np.zeros((1, 3, 1)))
