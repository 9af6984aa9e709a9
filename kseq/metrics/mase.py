"""The mean absolute scaled error of forecasts."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.heads.quantiles import NINE_LEVELS, check_levels
from kseq.metrics.series import column_of, split_truth
from kseq.numbers import positive_int


@keras.saving.register_keras_serializable(package="kseq")
class MASE(keras.metrics.Metric):
    """Mean absolute error of the medians, divided by that of a naive forecast within each series' own history.

        error_i = mean_t |y_t - median_t| / mean_t |h_t - h_{t - season}|;    the mean over the series i

    Below 1, a forecast is better than what the last season's value is for the step after it.

    Args:
        levels: Levels of the quantiles in `y_pred`, with 0.5 among them.
        season: Number of steps after which the series repeats itself; 1 if it does not.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: Float `(batch, history + steps)`: the history of each series, then what was forecast. NaN is left out.
        y_pred: Float `(batch, steps, levels)`, the quantiles.
        sample_weight: Float `(batch,)` or `(batch, steps)`, or None. A series has the mean weight of its steps.

    Returns:
        A float32 scalar; 0 before the first series. A series whose history is constant, or shorter than a season, has
        no scale and is left out.

    Raises:
        ValueError: If an option is wrong, a shape does not fit, or there is no history longer than the season.

    Example:
        >>> float(kseq.metrics.MASE([0.5])(np.array([[1.0, 3.0, 2.0]]), np.array([[[3.0]]])))
        0.5

    Reference: R. J. Hyndman, A. B. Koehler, "Another look at measures of forecast accuracy", International Journal of
    Forecasting, 2006.
    """

    def __init__(self, levels: Sequence[float] = NINE_LEVELS, *, season: int = 1, name: str = "mase", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.levels, self.season = check_levels(levels), positive_int(self, "season", season)
        self.median = column_of(self.levels, 0.5, "MASE")
        self.errors = self.add_weight(name="errors", initializer="zeros")
        self.series = self.add_weight(name="series", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the errors of a batch."""
        forecast, truth, history, weights = split_truth(y_true, y_pred, self.levels, sample_weight)
        if isinstance(history.shape[1], int) and history.shape[1] <= self.season:
            raise ValueError(
                f"MASE needs y_true with a history of more than season={self.season} steps before the forecast's "
                f"{forecast.shape[1]}, but it has {history.shape[1]}. Give the context and the truth joined in time."
            )
        steps = history[:, self.season :] - history[:, : -self.season]
        known = ops.logical_not(ops.isnan(steps))
        naive = ops.divide_no_nan(
            ops.sum(ops.abs(ops.where(known, steps, ops.zeros_like(steps))), axis=1),
            ops.sum(ops.cast(known, "float32"), axis=1),
        )
        error = ops.abs(truth - forecast[..., self.median])
        error = ops.where(weights != 0, error, ops.zeros_like(error)) * weights
        count = ops.sum(ops.cast(weights != 0, "float32"), axis=1)
        weight = ops.divide_no_nan(ops.sum(weights, axis=1), count) * ops.cast(naive > 0, "float32")
        scaled = ops.divide_no_nan(ops.divide_no_nan(ops.sum(error, axis=1), ops.sum(weights, axis=1)), naive)
        self.errors.assign_add(ops.sum(scaled * weight))
        self.series.assign_add(ops.sum(weight))

    def result(self) -> Tensor:
        """Return the mean over the series so far."""
        return ops.divide_no_nan(self.errors, self.series)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": list(self.levels), "season": self.season}
