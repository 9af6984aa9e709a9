"""The coverage of forecasts' intervals."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.heads.quantiles import NINE_LEVELS, check_levels
from kseq.metrics.series import column_of, split_truth
from kseq.numbers import real


@keras.saving.register_keras_serializable(package="kseq")
class Coverage(keras.metrics.Metric):
    """Share of the values that lie in the central interval of their forecast; `interval` is what it should be.

    Args:
        levels: Levels of the quantiles in `y_pred`.
        interval: Probability of the interval, such as 0.8, whose ends are the quantiles of 0.1 and 0.9; both must be
            among the levels.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: Float `(batch, time)`, of which the last steps are those of the forecast; NaN is left out.
        y_pred: Float `(batch, steps, levels)`, the quantiles.
        sample_weight: Float `(batch,)` or `(batch, steps)`, or None.

    Returns:
        A float32 scalar from 0 to 1; 0 before the first value. Forecasts of NaN cover nothing.

    Raises:
        ValueError: If an option is wrong or a shape does not fit.

    Example:
        >>> quantiles = np.array([[[0.0, 2.0]] * 2])
        >>> float(kseq.metrics.Coverage([0.1, 0.9])(np.array([[1.0, 3.0]]), quantiles))
        0.5
    """

    def __init__(
        self, levels: Sequence[float] = NINE_LEVELS, *, interval: float = 0.8, name: str = "coverage", **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        self.levels, self.interval = check_levels(levels), real("interval", interval)
        if not 0 < self.interval < 1:
            raise ValueError(f"interval={interval}, but it is a probability between 0 and 1, such as 0.8.")
        ends = 0.5 - 0.5 * self.interval, 0.5 + 0.5 * self.interval
        self.low, self.high = (column_of(self.levels, end, f"Coverage(interval={self.interval:g})") for end in ends)
        self.inside = self.add_weight(name="inside", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count the values of a batch."""
        forecast, truth, _, weights = split_truth(y_true, y_pred, self.levels, sample_weight)
        inside = ops.logical_and(truth >= forecast[..., self.low], truth <= forecast[..., self.high])
        self.inside.assign_add(ops.sum(ops.cast(inside, "float32") * weights))
        self.total.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the share so far."""
        return ops.divide_no_nan(self.inside, self.total)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": list(self.levels), "interval": self.interval}
