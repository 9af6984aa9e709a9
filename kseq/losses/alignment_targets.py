"""Arguments of the alignment losses: labels, logits, and the lengths of both."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.masking import implicit_mask, lengths_from_mask

INFEASIBLE = ("inf", "zero")  # the possible losses of a row without any alignment
KEYS = ("labels", "label_lengths", "logit_lengths")


class AlignmentTargets(NamedTuple):
    """The arguments of `kseq.ctc_loss`, in its order.

    Attributes:
        labels: int `(batch, max_labels)`.
        logits: Float `(batch, time, classes)`.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
    """

    labels: Tensor
    logits: Tensor
    label_lengths: Tensor
    logit_lengths: Tensor

    @classmethod
    def of(cls, y_true: Any, y_pred: Tensor) -> "AlignmentTargets":
        """Make the targets from a Keras loss's arguments.

        Args:
            y_true: Labels, padded with negative numbers; or a dict with `labels` and optionally `label_lengths` and
                `logit_lengths`.
            y_pred: Logits. Without `logit_lengths`, their implicit Keras mask gives the lengths.

        Raises:
            ValueError: If the dict lacks `labels` or has an unknown key.
        """
        if not isinstance(y_true, Mapping):
            y_true = {"labels": y_true}
        if "labels" not in y_true or not set(y_true) <= set(KEYS):
            raise ValueError(f"y_true is a dict of {sorted(y_true)}; expected labels and optionally {KEYS[1:]}.")
        logits, labels = ops.convert_to_tensor(y_pred), _integer(y_true["labels"])
        label_lengths, logit_lengths = y_true.get("label_lengths"), y_true.get("logit_lengths")
        if label_lengths is None:
            label_lengths = ops.sum(ops.cumprod(ops.cast(labels >= 0, "int32"), axis=1), axis=1)
        if logit_lengths is None:
            mask = implicit_mask(y_pred)
            whole = ops.full((ops.shape(logits)[0],), ops.shape(logits)[1], dtype="int32")
            logit_lengths = whole if mask is None else lengths_from_mask(mask)
        return cls(labels, logits, _integer(label_lengths), _integer(logit_lengths))


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of `losses` `(batch,)`, ignoring rows of weight 0, even if inf; 0 if no row is left."""
    weights = ops.ones_like(losses) if weights is None else ops.cast(weights, losses.dtype)
    weights = ops.reshape(weights, ops.shape(losses))
    total = ops.sum(weights)
    counted = ops.where(weights == 0, ops.zeros_like(losses), losses)
    return ops.sum(counted * weights) / ops.where(total > 0, total, ops.ones_like(total))


def _integer(values: Any) -> Tensor:
    """Return integers unchanged and other dtypes, to which Keras may have cast the labels, as int32."""
    values = ops.convert_to_tensor(values)
    return values if "int" in keras.backend.standardize_dtype(values.dtype) else ops.cast(values, "int32")
