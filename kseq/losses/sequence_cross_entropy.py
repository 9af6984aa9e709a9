"""Cross-entropy of sequences, averaged over the real tokens."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.masking import implicit_mask, token_weights, zero_padding


@keras.saving.register_keras_serializable(package="kseq")
class SequenceCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy per *real* token, in nats.

    The loss is the weighted sum over tokens divided by the sum of the weights, with weight 0 where the implicit Keras
    mask of the predictions is False. (Keras's own losses divide by batch x time, padding included, if a mask is lost
    on the way.) A batch without any real token has loss 0.

    Args:
        label_smoothing: Probability mass in [0, 1) taken from the true token and spread uniformly over the vocabulary
            (Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016).
        name: Name of the loss.

    Call arguments:
        y_true: int `(batch, time)`, token ids.
        y_pred: Float `(batch, time, vocabulary)`, unnormalised logits, with or without an implicit Keras mask.
        sample_weight: Float `(batch,)` or `(batch, time)`.

    Returns:
        A float32 scalar.

    Example:
        >>> model.compile("adam", loss=kseq.losses.SequenceCrossEntropy(label_smoothing=0.1))
    """

    def __init__(self, *, label_smoothing: float = 0.0, name: str = "sequence_cross_entropy", **kwargs: Any):
        kwargs.pop("reduction", None)  # in configs of the Keras base class; this loss has one fixed reduction
        super().__init__(name=name, **kwargs)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={label_smoothing} must be at least 0 and below 1.")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over real tokens."""
        mask = implicit_mask(y_pred)
        y_true = ops.convert_to_tensor(y_true)
        losses = self.call(zero_padding(y_true, mask), zero_padding(y_pred, mask))  # (batch, time)
        weights = token_weights(losses, mask, sample_weight)
        total = ops.sum(weights)
        return ops.sum(losses * weights) / ops.where(total > 0, total, ops.ones_like(total))

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the cross-entropy of every token, float32 `(batch, time)`."""
        logits = ops.cast(y_pred, "float32")
        losses = ops.sparse_categorical_crossentropy(y_true, logits, from_logits=True)
        if not self.label_smoothing:
            return losses
        uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        return (1.0 - self.label_smoothing) * losses + self.label_smoothing * uniform

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "label_smoothing": self.label_smoothing}
