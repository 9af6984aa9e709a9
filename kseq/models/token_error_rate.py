"""How many tokens a CTC model reads wrong."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import ctc_greedy_decode
from kseq.masking import implicit_mask, lengths_from_mask
from kseq.metrics import EditDistance


@keras.saving.register_keras_serializable(package="kseq")
class TokenErrorRate(EditDistance):
    """Edits between labels and what the logits say, decoded greedily, per label. It runs inside compiled steps.

    Exact over batches: the sum of all edits, divided by the number of all labels.

    Args:
        blank_index: The class that is the blank.
        name: Name of the metric.
        **kwargs: Those of `kseq.metrics.EditDistance`.

    Call arguments:
        y_true: int `(batch, max_labels)`, padded with negative numbers.
        y_pred: Float `(batch, time, classes)`, unnormalised logits. The frames of a row are those that the mask leaves
            which Keras carries with them; all, if there is none.
        sample_weight: Float `(batch,)`.

    Returns:
        A float32 scalar, which may exceed 1: a model that says too much has more edits than there are labels. A row
        whose logits are NaN counts as one that says nothing, if that is within a compiled function.

    Example:
        >>> model.compile("adam", loss=kseq.losses.CTC(), metrics=[kseq.models.TokenErrorRate()])
    """

    def __init__(self, *, blank_index: int = 0, name: str = "token_error_rate", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.blank_index = blank_index

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count one batch."""
        mask = implicit_mask(y_pred)
        whole = ops.full((ops.shape(y_pred)[0],), ops.shape(y_pred)[1], dtype="int32")
        decoded = ctc_greedy_decode(
            y_pred, whole if mask is None else lengths_from_mask(mask), blank_index=self.blank_index
        )
        labels = ops.cast(y_true, "int32")
        label_lengths = ops.sum(ops.cumprod(ops.cast(labels >= 0, "int32"), axis=1), axis=1)
        super().update_state(labels, decoded.tokens[:, 0], label_lengths, decoded.lengths[:, 0], sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "blank_index": self.blank_index}
