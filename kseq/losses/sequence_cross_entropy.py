"""Cross-entropy of sequences, averaged over the real tokens."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import known_integers, token_labels
from kseq.losses.compiled_cross_entropy import compiled_cross_entropy, suits_compiled_cross_entropy
from kseq.losses.reduced_loss import MEAN, ReducedLoss, mean_of_sum, ratio, read_smoothing
from kseq.masking import implicit_mask, token_weights, zero_padding
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class SequenceCrossEntropy(ReducedLoss):
    """Mean cross-entropy per *real* token, in nats.

    The loss is the weighted sum over tokens divided by the sum of the weights, with weight 0 where the implicit Keras
    mask of the predictions is False, and at tokens labelled `ignore_label`. (Keras's own losses divide by batch x time,
    padding included, if a mask is lost on the way.) A batch without any real token has loss 0. Tokens of weight 0
    change neither the loss nor a gradient, even if their logits are NaN.

    Args:
        label_smoothing: Probability mass in [0, 1) taken from the true token and spread uniformly over the vocabulary
            (Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016).
        ignore_label: Label of tokens that do not count, such as -100; None: every label must be a token id.
        reduction: How the weighted losses of the tokens become one number:
            "mean_with_sample_weight": their sum divided by the sum of the weights, the mean over tokens;
            "mean" or "sum_over_batch_size": their sum divided by the number of real tokens, whatever their weights;
            "mean_over_rows": the mean over rows of each row's mean, so that short and long rows count alike;
            "sum_over_time": the mean over rows of each row's sum;
            "sum": their sum; "none" or None: no reduction, `(batch, time)`.
            The means over rows leave out rows whose weights are all 0.
        name: Name of the loss.
        dtype: Dtype of the result; None: float32.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, token ids; whole numbers of a float dtype, and bools as 0
            and 1, are accepted.
        y_pred: Float `(batch, time, vocabulary)`, unnormalised logits, with or without an implicit Keras mask. Or
            `(batch, time)`, the log-probability of each label, of a model that computes no others.
        sample_weight: Float `(batch,)`, `(batch, time)` or `(batch, time, 1)`.

    Returns:
        A scalar. In a compiled graph, it is NaN if a real token's label is not a token id; that token's gradient is 0.

    Raises:
        ValueError: If an option is out of range or a dtype or shape is wrong, or label smoothing has no logits; outside
            compiled graphs also if a real token's label is not a token id.

    Example:
        >>> model.compile("adam", loss=kseq.losses.SequenceCrossEntropy(label_smoothing=0.1))

    The reductions are those of TensorFlow Addons' `tfa.seq2seq.SequenceLoss`: "mean_with_sample_weight" is averaging
    across timesteps and batch.
    """

    reductions: ClassVar[tuple[str, ...]] = (*ReducedLoss.reductions[:-1], "mean_over_rows", "sum_over_time", "none")

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        ignore_label: int | None = None,
        reduction: str | None = MEAN,
        name: str = "sequence_cross_entropy",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.label_smoothing = read_smoothing(label_smoothing)
        self.ignore_label = None if ignore_label is None else whole("ignore_label", ignore_label)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over real tokens, or another reduction."""
        mask, logits = implicit_mask(y_pred), ops.convert_to_tensor(y_pred)
        of_labels = None if len(logits.shape) != 2 else logits
        if of_labels is not None:
            self._refuse_smoothing()
            logits = of_labels[..., None]
        labels, known = token_labels(y_true, logits)
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
            mask = counted if mask is None else ops.logical_and(mask, counted)
        weights = None if mask is None and sample_weight is None else _weights(labels, mask, sample_weight)
        kept = None if weights is None else weights != 0
        if of_labels is not None:
            return self.reduce(zero_padding(-ops.cast(of_labels, "float32"), kept), weights, mask)
        _check_labels(known, kept, logits.shape[-1])
        if suits_compiled_cross_entropy(logits):
            losses = compiled_cross_entropy(labels, logits, kept, self.label_smoothing)
        else:
            losses = self.call(zero_padding(labels, kept), zero_padding(logits, kept))  # (batch, time)
        return self.reduce(losses, weights, mask)

    def _refuse_smoothing(self) -> None:
        if self.label_smoothing:
            raise ValueError(
                f"label_smoothing={self.label_smoothing} needs logits of the whole vocabulary, but the predictions are "
                "log-probabilities of the labels, (batch, time)."
            )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the cross-entropy of every token, float32 `(batch, time)`; NaN if its label is not a token id."""
        logits = ops.cast(y_pred, "float32")
        labels, _ = token_labels(y_true, logits)
        right = ops.logical_and(labels >= 0, labels < ops.shape(logits)[-1])
        labels = ops.where(right, labels, ops.zeros_like(labels))
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if self.label_smoothing:
            uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
            losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return ops.where(right, losses, ops.full_like(losses, np.nan))

    def combine(self, weighted: Tensor, weights: Tensor, real: Tensor) -> Tensor:
        """Return the weighted losses of the tokens, reduced."""
        if self.reduction not in ("mean_over_rows", "sum_over_time"):
            return super().combine(weighted, weights, real)
        rows, of_row = ops.sum(weighted, axis=1), ops.sum(weights, axis=1)
        rows = ratio(rows, of_row) if self.reduction == "mean_over_rows" else rows
        return mean_of_sum(ops.sum(rows), ops.cast(ops.any(weights != 0, axis=1), rows.dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "ignore_label": self.ignore_label}


def _weights(labels: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> Tensor:
    return token_weights(ops.ones_like(labels, dtype="float32"), mask, sample_weight)


def _check_labels(known: np.ndarray | None, kept: Tensor | None, classes: int | None) -> None:
    """Raise ValueError if a known label of a token that counts is not a token id."""
    if known is None or classes is None or not known.size:
        return
    outside = (known < 0) | (known >= classes)
    if not outside.any():
        return
    counted = None if kept is None else known_integers(ops.cast(kept, "int32"), "the mask")
    if kept is not None and counted is None:
        return
    outside &= True if counted is None else counted != 0
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"y_true{list(place)} = {known[place]} is not a token id: the logits have {classes} classes, 0 to "
            f"{classes - 1}. If {known[place]} marks tokens that do not count, give ignore_label={known[place]} to "
            "kseq.losses.SequenceCrossEntropy and kseq.metrics.TokenAccuracy."
        )
