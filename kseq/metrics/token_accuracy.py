"""Token accuracy."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.ids import token_labels
from kseq.masking import implicit_mask, token_weights
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class TokenAccuracy(keras.metrics.Metric):
    """Share of real tokens whose most probable prediction is right, exact over batches of unequal sizes.

    Args:
        ignore_label: Label of tokens that do not count, such as -100; None: all real tokens count.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, token ids; whole numbers of a float dtype, and bools as 0
            and 1, are accepted. A label that is not a token id counts as predicted wrongly.
        y_pred: Float `(batch, time, vocabulary)`, logits or probabilities. Their Keras mask, if they carry one, tells
            the real tokens.
        sample_weight: Float `(batch,)`, `(batch, time)` or `(batch, time, 1)`.

    Returns:
        A float32 scalar; 0 before the first real token.

    Raises:
        ValueError: If labels are no integers, or a shape does not fit the predictions.
    """

    def __init__(self, name: str = "token_accuracy", *, ignore_label: int | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.ignore_label = None if ignore_label is None else whole("ignore_label", ignore_label)
        self.right = self.add_weight(name="right", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count the right tokens of one batch."""
        (labels, _), mask = token_labels(y_true, y_pred), implicit_mask(y_pred)
        hits = ops.cast(ops.cast(ops.argmax(y_pred, axis=-1), "int32") == labels, "float32")
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
            mask = counted if mask is None else ops.logical_and(mask, counted)
        weights = token_weights(hits, mask, sample_weight)
        self.right.assign_add(ops.sum(hits * weights))
        self.total.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the share so far."""
        return ops.divide_no_nan(self.right, self.total)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "ignore_label": self.ignore_label}
