"""Token accuracy."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.metrics.token_mean import TokenMean


@keras.saving.register_keras_serializable(package="kseq")
class TokenAccuracy(TokenMean):
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
        super().__init__(name, ignore_label=ignore_label, **kwargs)
        self.sum = self.add_weight(name="right", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def values(self, labels: Tensor, y_pred: Tensor) -> Tensor:
        """Return 1 where the most probable token is right, else 0."""
        return ops.cast(ops.cast(ops.argmax(y_pred, axis=-1), "int32") == labels, "float32")
