"""Perplexity."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import token_labels
from kseq.masking import implicit_mask
from kseq.metrics.token_mean import TokenMean


@keras.saving.register_keras_serializable(package="kseq")
class Perplexity(TokenMean):
    """Exponential of the mean negative log-likelihood of real tokens, exact over batches of unequal sizes.

        exp(-1/n sum_t log p(token_t))

    A model that gives every token of a vocabulary of size V the same probability has the perplexity V.

    Args:
        ignore_label: Label of tokens that do not count, such as -100; None: all real tokens count.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, token ids; whole numbers of a float dtype are accepted.
        y_pred: Float `(batch, time, vocabulary)`, unnormalised logits. Their Keras mask, if they carry one, tells the
            real tokens. Or `(batch, time)`, the log-probability of each label, of a model that computes no others.
        sample_weight: Float `(batch,)`, `(batch, time)` or `(batch, time, 1)`.

    Returns:
        A float32 scalar; 1 before the first real token, NaN if a real token's label is not a token id.

    Raises:
        ValueError: If labels are no integers, or a shape does not fit the predictions.

    Example:
        >>> metric = kseq.metrics.Perplexity()
        >>> float(metric(np.array([[0, 1]]), np.zeros((1, 2, 10))))
        10.0
    """

    def __init__(self, name: str = "perplexity", *, ignore_label: int | None = None, **kwargs: Any):
        super().__init__(name, ignore_label=ignore_label, **kwargs)
        self.sum = self.add_weight(name="negative_log_likelihood", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the tokens of one batch."""
        if len(y_pred.shape) != 2:
            super().update_state(y_true, y_pred, sample_weight)
            return
        labels, _ = token_labels(y_true, y_pred[..., None])
        self.add(labels, -ops.cast(y_pred, "float32"), implicit_mask(y_pred), sample_weight)

    def values(self, labels: Tensor, y_pred: Tensor) -> Tensor:
        """Return the negative log-likelihood of each token in nats; NaN if its label is not a token id."""
        logits = ops.cast(y_pred, "float32")
        right = ops.logical_and(labels >= 0, labels < logits.shape[-1])
        losses = ops.sparse_categorical_crossentropy(ops.where(right, labels, 0), logits, from_logits=True)
        return ops.where(right, losses, ops.full_like(losses, np.nan))

    def result(self) -> Tensor:
        """Return the perplexity so far."""
        return ops.exp(super().result())
