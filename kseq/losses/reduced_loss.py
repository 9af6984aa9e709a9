"""The base class of the losses: what `reduction` and `dtype` do, and rows of weight 0."""

from typing import Any, ClassVar

import keras
from keras import ops

from kseq.backend import Tensor, sum_over_replicas
from kseq.numbers import real as real_number

MEAN = "mean_with_sample_weight"


class ReducedLoss(keras.losses.Loss):
    """A Keras loss whose reduction ignores values of weight 0, even if they are NaN or infinite.

    Under a distribution strategy of TensorFlow, each replica returns its part of the batch's loss: the parts add up to
    the loss of the whole batch. (A mean of Keras's losses is one of the replicas' means.)

    Args:
        reduction: One of `reductions`, or None, which is "none".
        name: Name of the loss.
        dtype: Dtype of the result; None: that of the computation, float32, or float64 for float64 predictions.

    Attributes:
        reductions: The reductions that the class accepts.
    """

    reductions: ClassVar[tuple[str, ...]] = (MEAN, "mean", "sum_over_batch_size", "sum", "none")

    def __init__(self, *, reduction: str | None = MEAN, name: str, dtype: Any = None):
        super().__init__(name=name, reduction="none", dtype=dtype)  # Keras knows its own reductions alone
        self.reduction = "none" if reduction is None else reduction
        if self.reduction not in self.reductions:
            raise ValueError(f"reduction={reduction!r}, expected one of {self.reductions}.")
        self.result_dtype = None if dtype is None else self._dtype_policy.name

    def reduce(self, losses: Tensor, weights: Tensor | None, real: Tensor | None = None) -> Tensor:
        """Return the losses reduced as `reduction` says, in the dtype asked for.

        Args:
            losses: Float `(batch,)` or `(batch, time)`.
            weights: Float, of the same shape, or None for weights of 1.
            real: Bool, of the same shape, True at the values that count in a mean over the batch; None: all do.
        """
        weights = ops.ones_like(losses) if weights is None else ops.reshape(weights, ops.shape(losses))
        weights = ops.cast(weights, losses.dtype)
        weighted = ops.where(weights == 0, ops.zeros_like(losses), losses) * weights
        real = ops.ones_like(losses) if real is None else ops.cast(real, losses.dtype)
        reduced = self.combine(weighted, weights, real)
        return reduced if self.result_dtype is None else ops.cast(reduced, self.dtype)

    def combine(self, weighted: Tensor, weights: Tensor, real: Tensor) -> Tensor:
        """Return `weighted`, the losses times `weights`, reduced; `real` is 1 where a value counts, else 0."""
        if self.reduction == "none":
            return weighted
        total = ops.sum(weighted)
        if self.reduction == "sum":
            return total
        return mean_of_sum(total, weights if self.reduction == MEAN else real)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction, "dtype": self.result_dtype}


def read_smoothing(value: Any) -> float:
    """Return the option `label_smoothing` as a float, or raise ValueError if it is not a number in [0, 1)."""
    number = real_number("label_smoothing", value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"label_smoothing={number} must be at least 0 and below 1.")
    return number


def mean_of_sum(total: Tensor, weights: Tensor) -> Tensor:
    """Return `total` divided by the sum of the weights, over the batch of all replicas of a distribution strategy.

    The results of the replicas, of which each has a part of the batch, add up to the mean over the batch, and so do
    their gradients.
    """
    return ratio(total, sum_over_replicas(ops.sum(weights)))


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """Return `total / count`, or `total` where the count is 0."""
    return total / ops.where(count > 0, count, ops.ones_like(count))
