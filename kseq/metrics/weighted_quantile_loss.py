"""The mean weighted quantile loss of forecasts."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.heads.quantiles import NINE_LEVELS, check_levels
from kseq.metrics.series import split_truth


@keras.saving.register_keras_serializable(package="kseq")
class WeightedQuantileLoss(keras.metrics.Metric):
    """Mean over quantile levels of the quantile loss, divided by the sum of the absolute values; 0 is the best.

        wQL_p = 2 sum |(y - q_p) ((y <= q_p) - p)| / sum |y|;    the mean over the levels p

    The sums are over all steps of all series, so it does not depend on the batches. It is GluonTS's
    `mean_wQuantileLoss`, and approximates the continuous ranked probability score.

    Args:
        levels: Levels of the quantiles, increasing numbers between 0 and 1.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: Float `(batch, time)`, of which the last steps are those of the forecast; NaN is left out.
        y_pred: Float `(batch, steps, levels)`, the quantiles.
        sample_weight: Float `(batch,)` or `(batch, steps)`, or None.

    Returns:
        A float32 scalar; 0 before the first value. NaN if all true values so far are 0: the losses then have no scale,
        and 0 would be the answer to a perfect forecast.

    Raises:
        ValueError: If the levels are wrong or a shape does not fit.

    Example:
        >>> float(kseq.metrics.WeightedQuantileLoss([0.5])(np.array([[2.0]]), np.array([[[1.0]]])))
        0.5
    """

    def __init__(self, levels: Sequence[float] = NINE_LEVELS, *, name: str = "weighted_quantile_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.levels = check_levels(levels)
        self.losses = self.add_weight(name="losses", shape=(len(self.levels),), initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the losses of a batch."""
        forecast, truth, _, weights = split_truth(y_true, y_pred, self.levels, sample_weight)
        levels = np.array(self.levels, "float32")
        error = truth[..., None] - forecast
        loss = 2.0 * ops.maximum(levels * error, (levels - 1.0) * error)
        counted = (weights != 0)[..., None]
        loss = ops.where(counted, loss, ops.zeros_like(loss)) * weights[..., None]
        self.losses.assign_add(ops.sum(loss, axis=(0, 1)))
        self.total.assign_add(ops.sum(ops.abs(truth) * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the mean over the levels so far."""
        return self._scaled(ops.mean(self.losses))

    def _scaled(self, losses: Tensor) -> Tensor:
        """Return sums of losses divided by the sum of the absolute values; see the class for a sum of 0."""
        has_no_scale = ops.logical_and(self.total == 0, self.count > 0)
        return ops.where(has_no_scale, np.float32(np.nan), ops.divide_no_nan(losses, self.total))

    def result_by_level(self) -> dict[float, float]:
        """Return the weighted quantile loss of each level so far."""
        losses = ops.convert_to_numpy(self._scaled(ops.convert_to_tensor(self.losses)))
        return dict(zip(self.levels, losses.tolist(), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": list(self.levels)}
