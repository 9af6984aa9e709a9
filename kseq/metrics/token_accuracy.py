"""Token accuracy."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.masking import implicit_mask, token_weights


@keras.saving.register_keras_serializable(package="kseq")
class TokenAccuracy(keras.metrics.Metric):
    """Share of real tokens whose most probable prediction is right, exact over batches of unequal sizes.

    Args:
        name: Name of the metric.

    Call arguments:
        y_true: int `(batch, time)`, token ids.
        y_pred: Float `(batch, time, vocabulary)`, logits or probabilities. Their Keras mask, if they carry one, tells
            the real tokens.
        sample_weight: Float `(batch,)` or `(batch, time)`.

    Returns:
        A float32 scalar; 0 before the first real token.
    """

    def __init__(self, name: str = "token_accuracy", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.right = self.add_weight(name="right", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count the right tokens of one batch."""
        hits = ops.cast(ops.argmax(y_pred, axis=-1), "int32") == ops.cast(y_true, "int32")
        hits = ops.cast(hits, "float32")
        weights = token_weights(hits, implicit_mask(y_pred), sample_weight)
        self.right.assign_add(ops.sum(hits * weights))
        self.total.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the share so far."""
        return ops.divide_no_nan(self.right, self.total)
