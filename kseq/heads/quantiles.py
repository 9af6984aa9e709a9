"""Quantiles without a distribution, trained by the pinball loss."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.heads.head import Head, registered

NINE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class QuantileParameters(NamedTuple):
    """Float32 `(..., levels)`, in the order of the levels; they may cross."""

    values: Tensor


@registered
class Quantiles(Head):
    """Quantiles of given levels, each an output of its own: no distribution, so without samples and probabilities.

        loss(y) = 2 sum_p max(p (y - q_p), (p - 1) (y - q_p)) / n    over the n levels p

    Args:
        levels: Increasing numbers between 0 and 1.

    Raises:
        ValueError: If they are not; in `quantile` if `p` is below the first level or above the last.

    Example:
        >>> head = kseq.heads.Quantiles([0.1, 0.5, 0.9])
        >>> head.quantile(head.parameters(np.zeros((4, 3))), 0.5).shape
        (4,)

    Reference: R. Koenker, G. Bassett, "Regression quantiles", Econometrica, 1978.
    """

    can_sample: ClassVar[bool] = False

    def __init__(self, levels: Sequence[float] = NINE_LEVELS):
        self.levels = check_levels(levels)

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return len(self.levels)

    def parameters_of(self, outputs: Tensor) -> QuantileParameters:
        """Return the parameters of float32 `outputs` `(..., levels)`."""
        return QuantileParameters(outputs)

    def loss(self, parameters: QuantileParameters, values: Any) -> Tensor:
        """Return the mean pinball loss over the levels, times 2, float32 `(...)`; of NaN it is NaN."""
        values = self.checked_values(parameters, values)
        possible = self.supports(values)
        error = ops.where(possible, values, ops.zeros_like(values))[..., None] - parameters.values
        levels = np.array(self.levels, "float32")
        pinball = 2.0 * ops.mean(ops.maximum(levels * error, (levels - 1.0) * error), axis=-1)
        return ops.where(possible, pinball, np.float32(np.nan))

    def log_probability(self, parameters: QuantileParameters, values: Any) -> Tensor:
        """Raise ValueError: quantiles are no distribution."""
        raise ValueError(
            f"{self!r} has no log_probability: it is no distribution. Train with loss(parameters, values)."
        )

    def mean(self, parameters: QuantileParameters) -> Tensor:
        """Raise ValueError: quantiles are no distribution."""
        raise ValueError(f"{self!r} has no mean: it is no distribution. Use quantile(parameters, 0.5).")

    def cdf(self, parameters: QuantileParameters, values: Any) -> Tensor:
        """Raise ValueError: quantiles are no distribution."""
        raise ValueError(f"{self!r} has no cumulative probabilities: it is no distribution.")

    def checked_levels(self, p: Any) -> Tensor:
        """Return probabilities as float32, or raise ValueError if one is outside of the levels."""
        known, p = known_value(p), super().checked_levels(p)
        low, high = self.levels[0], self.levels[-1]
        if known is not None and not np.all((known >= low - 1e-6) & (known <= high + 1e-6)):
            raise ValueError(f"p={known.tolist()}, but {self!r} has quantiles of p from {low} to {high} alone.")
        return ops.where(ops.logical_and(p >= low - 1e-6, p <= high + 1e-6), p, np.float32(np.nan))

    def inverse_cdf(self, parameters: QuantileParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`: sorted, so that none cross, and between two levels interpolated."""
        values = ops.sort(parameters.values, axis=-1)
        levels = np.array(self.levels, "float32")
        quantiles = values[..., 0]
        for index in range(1, len(levels)):
            share = ops.clip((p - levels[index - 1]) / (levels[index] - levels[index - 1]), 0.0, 1.0)
            quantiles = quantiles + share * (values[..., index] - values[..., index - 1])
        return quantiles

    def scaled(self, parameters: QuantileParameters, scale: Tensor) -> QuantileParameters:
        """Return the quantiles of values that are `scale` times as large."""
        return QuantileParameters(parameters.values * scale[..., None])

    def spread(self, parameters: QuantileParameters) -> Tensor:
        """Return a tensor of the shape of a value."""
        return parameters.values[..., 0]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"levels": list(self.levels)}


def check_levels(levels: Any) -> tuple[float, ...]:
    """Return levels of quantiles as floats, or raise ValueError unless they are increasing numbers between 0 and 1."""
    array = np.asarray(levels if hasattr(levels, "__len__") else [levels], "float64")
    if array.ndim != 1 or not array.size or not np.all((array > 0) & (array < 1)) or not np.all(np.diff(array) > 0):
        raise ValueError(
            f"levels must be increasing numbers between 0 and 1, such as (0.1, 0.5, 0.9), but got {levels!r}."
        )
    return tuple(array.tolist())
