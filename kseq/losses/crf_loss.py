"""The loss of a conditional random field (CRF) in Keras's form: transitions from the layer, lengths from masks."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.symbolic_scope import in_symbolic_scope  # no public API
from keras.src.backend.common.tensor_attributes import get_tensor_attr, set_tensor_attr  # no public API

from kseq.backend import Tensor, known_value, warn_if
from kseq.ids import token_labels
from kseq.losses.alignment_targets import row_weights
from kseq.losses.crf import check_infeasible, crf_log_likelihood
from kseq.losses.reduced_loss import MEAN, ReducedLoss
from kseq.masking import implicit_mask, lengths_of_prefixes, mask_from_lengths, zero_padding

LAYER = "_kseq_crf"  # the attribute of a tensor of scores that is the layer with their transitions


def set_layer_of_scores(scores: Tensor, layer: Any) -> None:
    """Attach to `scores` the layer that holds their transitions, as Keras attaches masks."""
    set_tensor_attr(scores, LAYER, layer)


def layer_of_scores(scores: Tensor) -> Any:
    """Return the layer of `set_layer_of_scores`, or None."""
    return get_tensor_attr(scores, LAYER)


@keras.saving.register_keras_serializable(package="kseq", name="CRFLoss")  # not the layer's
class CRF(ReducedLoss):
    """Mean negative log-likelihood per row, in nats, of the tags under the transitions of a `kseq.layers.CRF`.

    The predictions are the output of that layer, which tells the loss its transitions, so it is the model's last
    layer. `crf.loss`, of a layer `crf`, is such a loss that also works with layers after that one. The number of steps
    of a row comes from the implicit Keras mask of the predictions; without one, a row ends before its first negative
    tag.

    Args:
        infeasible: The loss of a row whose tags have probability zero, such as tags that the layer's scheme forbids:
            "inf" or "zero". Its gradient is zero in both cases.
        reduction: As in `kseq.losses.CTC`.
        name: Name of the loss.
        dtype: Dtype of the result; None: float32, in which the loss is computed.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, tags; whole numbers of a float dtype are accepted.
        y_pred: Float `(batch, time, tags)`, the output of a `kseq.layers.CRF`.
        sample_weight: Float `(batch,)`; rows of weight 0 are ignored, even if infeasible, invalid or NaN.

    Returns:
        A scalar: the weighted mean over rows, or another reduction. In a compiled graph, a row with an invalid tag has
        the loss inf and gradient 0. Invalid and infeasible rows are warned of, except under XLA on TensorFlow.

    Raises:
        ValueError: If an option is unknown, if the predictions are not the output of a `kseq.layers.CRF`, and as
            `kseq.losses.crf_log_likelihood`.

    Example:
        >>> crf = kseq.layers.CRF(9)
        >>> model = keras.Model(inputs, crf(features))
        >>> model.compile("adam", loss=crf.loss)  # or kseq.losses.CRF(), with options

    Reference: J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models for segmenting and
    labeling sequence data", 2001.
    """

    def __init__(self, *, infeasible: str = "inf", reduction: str | None = MEAN, name: str = "crf", dtype: Any = None):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        check_infeasible(infeasible)
        self.infeasible = infeasible
        # The layer of predictions that do not tell it. A function, because Keras saves all layers that it finds.
        self._default_layer: Callable[[], Any] = lambda: None

    @classmethod
    def of_layer(cls, layer: Any) -> "CRF":
        """Return a loss with the transitions of `layer` where the predictions are not the output of such a layer."""
        loss = cls()
        loss._default_layer = lambda: layer
        return loss

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over rows, or another reduction."""
        layer, mask, scores = self._layer_of(y_pred), implicit_mask(y_pred), ops.convert_to_tensor(y_pred)
        tags, lengths = _tags_and_lengths(y_true, scores, mask)
        weights = row_weights(scores, sample_weight)
        if weights is not None:
            counted = weights != 0
            scores, lengths = zero_padding(scores, counted), ops.where(counted, lengths, 0)
        return self.reduce(self._losses(tags, scores, lengths, layer), weights)

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss of each row, `(batch,)`."""
        scores = ops.convert_to_tensor(y_pred)
        tags, lengths = _tags_and_lengths(y_true, scores, implicit_mask(y_pred))
        return self._losses(tags, scores, lengths, self._layer_of(y_pred))

    def _layer_of(self, y_pred: Tensor) -> Any:
        layer = layer_of_scores(y_pred)
        layer = self._default_layer() if layer is None else layer
        if layer is None and not in_symbolic_scope():
            raise ValueError(
                "The loss CRF needs the output of a kseq.layers.CRF as predictions, which tells it the transitions. "
                "Make it the model's last layer, or compile with loss=model.get_layer(NAME).loss, also after loading."
            )
        return layer

    def _losses(self, tags: Tensor, scores: Tensor, lengths: Tensor, layer: Any) -> Tensor:
        if layer is None:  # Keras asks for the shape of the loss, with new tensors in place of the predictions
            return ops.zeros_like(scores[:, 0, 0], dtype="float32")
        chain = layer.transition_scores(in_loss=True)
        logs = crf_log_likelihood(tags, scores, lengths, infeasible=self.infeasible, **chain)
        if known_value(tags) is None:
            _warn(tags, lengths, logs, scores.shape[2])
        return -logs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "infeasible": self.infeasible}


def _tags_and_lengths(y_true: Any, scores: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return tags int32 `(batch, time)` and the lengths of rows, int32 `(batch,)`."""
    tags, _ = token_labels(y_true, scores)
    if mask is None:
        return tags, ops.sum(ops.cumprod(ops.cast(tags >= 0, "int32"), axis=1), axis=1)
    return tags, lengths_of_prefixes(mask)


def _warn(tags: Tensor, lengths: Tensor, logs: Tensor, count: int) -> None:
    """Warn, while a graph runs, of rows with the loss inf. Where tags are known, wrong ones are an error anyway."""
    outside = ops.logical_and(mask_from_lengths(lengths, ops.shape(tags)[1]), ops.clip(tags, 0, count - 1) != tags)
    wrong = ops.any(outside, axis=1)
    infeasible = ops.logical_and(logs == -np.inf, ops.logical_not(wrong))
    warn_if(
        {
            f"Some tags are not between 0 and {count - 1}: the loss of these rows is inf, and they are not trained "
            "on. Give the CRF more tags, or correct the tags or the mask.": ops.any(wrong),
            "Some rows have tags that the scheme or the transitions forbid: their loss is inf, and they are not "
            "trained on. Correct the tags, drop these rows, give the CRF constrain_loss=False, or the loss "
            'infeasible="zero".': ops.any(infeasible),
        }
    )
