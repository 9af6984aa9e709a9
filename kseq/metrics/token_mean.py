"""The base class of metrics that are means over real tokens."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.ids import token_labels
from kseq.masking import implicit_mask, token_weights
from kseq.numbers import whole


class TokenMean(keras.metrics.Metric):
    """The mean of a value of each real token, exact over batches of unequal sizes.

    A subclass defines `values` and creates the two sums, `self.sum` and `self.total`, by `add_weight`.

    Args:
        name: Name of the metric.
        ignore_label: Label of tokens that do not count, such as -100; None: all real tokens count.
        **kwargs: Arguments of `keras.metrics.Metric`.
    """

    sum: Any
    total: Any

    def __init__(self, name: str, *, ignore_label: int | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.ignore_label = None if ignore_label is None else whole("ignore_label", ignore_label)

    def values(self, labels: Tensor, y_pred: Tensor) -> Tensor:
        """Return the value of each token, float `(batch, time)`, of int labels `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define values(labels, y_pred).")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the tokens of one batch."""
        labels, _ = token_labels(y_true, y_pred)
        self.add(labels, self.values(labels, y_pred), implicit_mask(y_pred), sample_weight)

    def add(self, labels: Tensor, values: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> None:
        """Add the values of tokens, `(batch, time)`; `mask` tells the real ones."""
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
            mask = counted if mask is None else ops.logical_and(mask, counted)
        weights = token_weights(values, mask, sample_weight)
        # Selected, not multiplied: the value of a token that does not count may be NaN.
        self.sum.assign_add(ops.sum(ops.where(weights == 0, 0.0, values * weights)))
        self.total.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the mean so far; 0 before the first real token."""
        return ops.divide_no_nan(self.sum, self.total)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "ignore_label": self.ignore_label}
