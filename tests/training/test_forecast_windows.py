"""Windows of series."""

import numpy as np
import pytest

from kseq.training import forecast_windows


def test_every_window_of_every_series():
    series = [np.arange(6.0), np.arange(10.0, 14.0), np.arange(5.0) + 20]
    rows = forecast_windows(series, 3, 2, categories=[[0], [1], [2]], numbers=[[0.5], [1.5], [2.5]])
    assert rows["context"].tolist() == [[0, 1, 2], [1, 2, 3], [20, 21, 22]]
    assert rows["target"].tolist() == [[3, 4], [4, 5], [23, 24]]
    assert rows["lengths"].tolist() == [3] * 3
    assert rows["target_lengths"].tolist() == [2] * 3
    assert rows["categories"].tolist() == [[0], [0], [2]]
    assert rows["numbers"].tolist() == [[0.5], [0.5], [2.5]]


def test_strides_end_with_the_series_and_features_go_along():
    series = np.arange(20.0).reshape(2, 10)
    rows = forecast_windows(series, 3, 2, stride=4, features=np.stack([series, -series], axis=-1))
    assert rows["context"][:, 0].tolist() == [1, 5, 11, 15]
    np.testing.assert_array_equal(rows["context_features"][..., 1], -rows["context"])
    np.testing.assert_array_equal(rows["target_features"][..., 0], rows["target"])
    vectors = forecast_windows([np.ones((6, 4))], 3, 2)
    assert vectors["context"].shape == (2, 3, 4)


def test_drawn_windows_depend_on_the_seed():
    series = np.arange(1000.0)[None]
    one, same, other = (forecast_windows(series, 3, 2, count=40, seed=seed)["context"] for seed in (0, 0, 1))
    assert one.shape == (40, 3)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (np.diff(one, axis=1) == 1).all()


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ([np.arange(4.0)], {}, r"No series has context \+ horizon = 3 \+ 2 steps: the longest has 4"),
        (np.arange(9.0), {}, "series is one series, but expected several"),
        (np.ones((1, 9)), {"stride": 0}, "stride=0, but it must be at least 1"),
        (np.ones((1, 9)), {"count": 0}, "count=0, but it must be at least 1"),
        (np.ones((1, 9)), {"categories": [1]}, r"categories has shape \(1,\), but expected \(1, n\)"),
        (np.ones((1, 9)), {"features": np.ones((1, 8, 2))}, "features must have numbers of each step"),
    ],
)
def test_what_does_not_fit_is_refused(series, options, message):
    with pytest.raises(ValueError, match=message):
        forecast_windows(series, 3, 2, **options)
