"""The coverage of intervals."""

import numpy as np
import pytest

import kseq


def test_is_the_share_of_values_between_the_ends():
    metric = kseq.metrics.Coverage((0.1, 0.5, 0.9), interval=0.8)
    quantiles = np.broadcast_to([0.0, 0.5, 1.0], (2, 3, 3))
    truth = np.array([[0.0, 1.0, 1.1], [np.nan, -0.1, 0.3]])
    metric.update_state(truth, quantiles)
    np.testing.assert_allclose(metric.result(), 3 / 5, rtol=1e-6)
    metric.reset_state()
    metric.update_state(truth, quantiles, np.array([1.0, 0.0]))
    np.testing.assert_allclose(metric.result(), 2 / 3, rtol=1e-6)


def test_intervals_without_levels_are_refused():
    with pytest.raises(ValueError, match=r"Coverage\(interval=0.9\) needs quantiles of level 0.05"):
        kseq.metrics.Coverage(interval=0.9)
    with pytest.raises(ValueError, match=r"interval=1.0, but it is a probability"):
        kseq.metrics.Coverage(interval=1.0)
