"""Accuracy of whole sequences."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.ids import from_bools, integers, token_labels
from kseq.masking import implicit_mask, mask_from_lengths, token_weights
from kseq.metrics.texts import same_number, text_rows
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class SequenceAccuracy(keras.metrics.Metric):
    """Share of rows that are right as a whole, exact over batches of unequal sizes.

    A row of tokens is right if each of its real tokens is. In `compile(metrics=...)` of a `kseq.models.Seq2Seq` or
    `LanguageModel`, each token is predicted after the true tokens before it; `kseq.training.DecodedMetric` compares
    what the model writes by itself.

    Args:
        ignore_label: Label of tokens that do not count, such as -100; None: all real tokens count.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, token ids; whole numbers of a float dtype, and bools as 0
            and 1, are accepted. Or a list of texts, or of lists of tokens.
        y_pred: Float `(batch, time, vocabulary)`, logits or probabilities, of which the largest decides; or int
            `(batch, time)`, ids. Their Keras mask, if they carry one, tells the real tokens. Or a list like `y_true`; a
            row is then right if both are equal.
        sample_weight: Float `(batch,)`, `(batch, time)` or `(batch, time, 1)`. Tokens of weight 0 do not count; a row
            has the largest weight of its tokens. For lists `(batch,)`.
        lengths: int `(batch,)`, the number of real tokens in each row, in place of a mask; by keyword.

    Returns:
        A float32 scalar; 0 before the first row. Rows of tensors without a token that counts are left out. A row with
        NaN in the logits of a token that counts is wrong.

    Raises:
        ValueError: If labels are no integers, a shape does not fit the predictions, or the numbers of rows differ.

    Example:
        >>> float(kseq.metrics.SequenceAccuracy()(["a b", "c"], ["a b", "d"]))
        0.5
    """

    def __init__(self, name: str = "sequence_accuracy", *, ignore_label: int | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.ignore_label = None if ignore_label is None else whole("ignore_label", ignore_label)
        self.right = self.add_weight(name="right", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, lengths: Tensor | None = None) -> None:
        """Count the rows of one batch."""
        if isinstance(y_true, list) or isinstance(y_pred, list):
            right, weights = _equal_rows(y_true, y_pred, sample_weight)
        else:
            right, weights = self._right_rows(y_true, y_pred, sample_weight, lengths)
        self.right.assign_add(ops.sum(ops.where(right, weights, 0.0)))
        self.total.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the share so far."""
        return ops.divide_no_nan(self.right, self.total)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "ignore_label": self.ignore_label}

    def _right_rows(self, y_true: Any, y_pred: Any, sample_weight: Any, lengths: Any) -> tuple[Tensor, Tensor]:
        """Return which rows are right, bool `(batch,)`, and their weights, float32 `(batch,)`."""
        mask, y_pred = implicit_mask(y_pred), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) == 2:
            predicted = integers(from_bools(y_pred), "y_pred", whole_floats=True)
        else:
            odd = ops.any(ops.isnan(y_pred), axis=-1)
            predicted = ops.where(odd, -1, ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        labels, _ = token_labels(y_true, predicted[..., None])
        if lengths is not None:
            mask = mask_from_lengths(integers(lengths, "lengths"), ops.shape(labels)[1])
        weights = token_weights(ops.ones_like(labels, dtype="float32"), mask, sample_weight)
        if self.ignore_label is not None:
            weights = ops.where(labels == self.ignore_label, 0.0, weights)
        # A label of -1 is no token: it does not equal the -1 of NaN.
        same = ops.logical_and(labels == predicted, predicted >= 0)
        return ops.all(ops.logical_or(same, weights == 0), axis=1), ops.max(weights, axis=1, initial=0.0)


def _equal_rows(references: Any, hypotheses: Any, sample_weight: Any) -> tuple[Tensor, Tensor]:
    """Return which rows of two lists are equal, and their weights."""
    references, hypotheses = text_rows(references), text_rows(hypotheses)
    same_number(references, hypotheses)
    right = [reference == hypothesis for reference, hypothesis in zip(references, hypotheses, strict=True)]
    weights = ops.ones((len(right),)) if sample_weight is None else ops.cast(sample_weight, "float32")
    if tuple(weights.shape) != (len(right),):
        raise ValueError(f"sample_weight has shape {tuple(weights.shape)}, but there are {len(right)} rows.")
    return ops.convert_to_tensor(right, dtype="bool"), weights
