"""The steps of a forecast that its metrics count, and the levels of their quantiles."""

from typing import Any

from keras import ops

from kseq.backend import Tensor


def column_of(levels: tuple[float, ...], level: float, use: str) -> int:
    """Return the place of a level among the forecast's; raise ValueError if it is not there."""
    places = [index for index, each in enumerate(levels) if abs(each - level) < 1e-9]
    if not places:
        raise ValueError(f"{use} needs quantiles of level {level:g}, but the levels are {levels}. Add it to levels.")
    return places[0]


def split_truth(y_true: Any, y_pred: Any, levels: tuple[float, ...], weights: Any) -> tuple[Tensor, ...]:
    """Return the forecast, the truth, the history before it, and the weights of the forecast's steps.

    Args:
        y_true: `(batch, time)` with at least as many steps as the forecast; its last steps are what was forecast.
        y_pred: `(batch, steps, levels)`.
        levels: Levels of the quantiles.
        weights: `(batch,)`, `(batch, steps)` or None.

    Returns:
        The forecast float32 `(batch, steps, levels)`; the truth `(batch, steps)`, 0 where it is NaN; the history
        `(batch, time - steps)`; the weights `(batch, steps)`, 0 where the truth is NaN.

    Raises:
        ValueError: If a shape does not fit.
    """
    truth, forecast = (ops.cast(ops.convert_to_tensor(each), "float32") for each in (y_true, y_pred))
    if len(forecast.shape) != 3 or forecast.shape[2] != len(levels) or len(truth.shape) != 2:
        raise ValueError(
            f"y_true has shape {tuple(truth.shape)} and y_pred {tuple(forecast.shape)}, but expected (batch, time) and "
            f"quantiles (batch, steps, {len(levels)}), of the levels {levels}."
        )
    steps, time = ops.shape(forecast)[1], ops.shape(truth)[1]
    if isinstance(steps, int) and isinstance(time, int) and time < steps:
        raise ValueError(f"y_true has {time} steps, but the forecast has {steps}: expected at least as many.")
    history, truth = truth[:, : time - steps], truth[:, time - steps :]
    known = ops.logical_not(ops.isnan(truth))
    counted = ops.cast(known, "float32")
    if weights is not None:
        weights = ops.cast(ops.convert_to_tensor(weights), "float32")
        counted = counted * (weights[:, None] if len(weights.shape) == 1 else weights)
    return forecast, ops.where(known, truth, ops.zeros_like(truth)), history, counted
