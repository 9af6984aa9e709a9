"""The loss of connectionist temporal classification (CTC), for labels without known positions in the input."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.alignment.batch import Batch, make_batch, precise
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.forward_backward import log_probability
from kseq.backend import Tensor, without_autograph
from kseq.losses.alignment_targets import INFEASIBLE, AlignmentTargets, row_weights, warn_of_rows
from kseq.losses.reduced_loss import MEAN, ReducedLoss, read_smoothing
from kseq.masking import mask_from_lengths, zero_padding
from kseq.numbers import whole


@without_autograph
def ctc_loss(
    labels: Tensor,
    logits: Tensor,
    label_lengths: Tensor,
    logit_lengths: Tensor,
    *,
    blank_index: int = 0,
    infeasible: str = "inf",
) -> Tensor:
    """Return the negative log-probability, in nats, of each row's labels, summed over all their alignments.

    An alignment assigns a label or the blank to each frame; collapsing repeats and then dropping blanks must give the
    labels. The gradient with respect to the logits is the softmax minus the posteriors of the classes.

    Args:
        labels: int `(batch, max_labels)`, classes; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored, even NaN. Lower
            precisions are cast to float32.
        label_lengths: int `(batch,)`, from 0 to `max_labels`.
        logit_lengths: int `(batch,)`, from 0 to `time`.
        blank_index: The class that is the blank; -1 is the last.
        infeasible: The loss of a row without any alignment (fewer frames than labels plus repeats, or probability zero
            of all alignments): "inf" or "zero". Its gradient is zero in both cases.

    Returns:
        Float32 `(batch,)`, or float64 for float64 logits. A row without labels and frames has loss 0. In a compiled
        graph, a row with an invalid label (outside the classes, or the blank) or an invalid length has the loss inf,
        whatever `infeasible` is, and gradient 0. A row with NaN or +inf among its logits, or with a frame of only -inf,
        has loss and gradient NaN. Rows never affect each other.

    Raises:
        ValueError: If shapes do not match, a dtype is wrong, or an option is unknown; and where values are known
            (outside compiled graphs), if a label or length is invalid or a logit is NaN or +inf.
        NotImplementedError: If the gradient of the gradient is requested. In a TensorFlow graph it is an
            `InvalidArgumentError`, and compiled by XLA that gradient is NaN.

    Example:
        >>> ctc_loss(np.array([[1, 2]]), np.zeros((1, 4, 3)), np.array([2]), np.array([4]))
        [1.6863989]

    Reference: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", 2006.
    """
    _check_infeasible(infeasible)
    topology = CTCTopology(blank_index)
    batch = make_batch(labels, logits, label_lengths, logit_lengths, topology)
    losses = -log_probability(topology, batch)
    return losses if infeasible == "inf" else ops.where(_short(losses, batch), ops.zeros_like(losses), losses)


@keras.saving.register_keras_serializable(package="kseq")
class CTC(ReducedLoss):
    """Mean CTC loss per row, in nats, as a Keras loss that takes lengths from masks and padding.

    The number of frames of a row comes from the implicit Keras mask of the predictions; without a mask all frames
    count. The labels of a row end before its first negative value: pad labels with -1. (`keras.losses.CTC` takes labels
    padded with 0. Here 0 is the blank, or a label: convert them with `np.where(labels == 0, -1, labels)`.)

    Args:
        blank_index: The class that is the blank; -1 is the last.
        infeasible: The loss of a row without any alignment, "inf" or "zero"; its gradient is zero.
        label_smoothing: Weight w in [0, 1): the loss is (1 - w) times CTC plus w times the cross-entropy of the uniform
            distribution and the softmax, summed over frames (S. Kim, M. Seltzer, J. Li, R. Zhao, "Improved training for
            online end-to-end speech recognition systems", 2018).
        reduction: "mean_with_sample_weight": the sum of the weighted losses divided by the sum of the weights; "mean"
            or "sum_over_batch_size": divided by the number of rows, whatever their weights; "sum"; "none" or None: the
            weighted losses, `(batch,)`.
        name: Name of the loss.
        dtype: Dtype of the result; None: float32, or float64 for float64 logits. The loss is computed in those.

    Call arguments:
        y_true: int `(batch, max_labels)`, padded with negative numbers; or a dict of `labels`, optionally with
            `label_lengths` (for labels padded otherwise) and `logit_lengths` (in place of the mask). Whole numbers of a
            float dtype are accepted.
        y_pred: Float `(batch, time, classes)`, unnormalised logits.
        sample_weight: Float `(batch,)`; rows of weight 0 are ignored, even if infeasible, invalid or NaN.

    Returns:
        A scalar: the weighted mean over rows, or another reduction. In a compiled graph an invalid row, such as one
        with a blank among its labels, has the loss inf and gradient 0. Blanks, labels that are no class, and rows with
        too few frames for their labels are warned of, except under XLA on TensorFlow.

    Raises:
        ValueError: If an option is unknown or out of range, and as `ctc_loss`.

    Example:
        >>> model.compile("adam", loss=kseq.losses.CTC())
        >>> model.fit(spectrograms, np.array([[3, 1, 2], [5, -1, -1]]))
    """

    def __init__(
        self,
        *,
        blank_index: int = 0,
        infeasible: str = "inf",
        label_smoothing: float = 0.0,
        reduction: str | None = MEAN,
        name: str = "ctc",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        _check_infeasible(infeasible)
        self.blank_index = whole("blank_index", blank_index)
        self.infeasible, self.label_smoothing = infeasible, read_smoothing(label_smoothing)

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over rows, or another reduction."""
        targets = AlignmentTargets.of(y_true, y_pred)
        weights = row_weights(targets.logits, sample_weight)
        return self.reduce(self._losses(targets if weights is None else targets.without(weights == 0)), weights)

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss of each row, `(batch,)`."""
        return self._losses(AlignmentTargets.of(y_true, y_pred))

    def _losses(self, targets: AlignmentTargets) -> Tensor:
        warn_of_rows(targets, self.blank_index, of_short=self.infeasible == "inf")
        if not self.label_smoothing:
            return ctc_loss(*targets, blank_index=self.blank_index, infeasible=self.infeasible)
        topology = CTCTopology(self.blank_index)
        batch = make_batch(*targets, topology)
        losses = -log_probability(topology, batch)
        uniform = ops.where(losses != np.inf, _uniform_cross_entropy(targets), ops.zeros_like(losses))
        losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return losses if self.infeasible == "inf" else ops.where(_short(losses, batch), ops.zeros_like(losses), losses)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "blank_index": self.blank_index,
            "infeasible": self.infeasible,
            "label_smoothing": self.label_smoothing,
        }


def _short(losses: Tensor, batch: Batch) -> Tensor:
    """Return which rows have no alignment although their labels and lengths are valid."""
    return ops.logical_and(losses == np.inf, batch.usable)


def _check_infeasible(infeasible: str) -> None:
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible={infeasible!r}, expected one of {INFEASIBLE}.")


def _uniform_cross_entropy(targets: AlignmentTargets) -> Tensor:
    """Return the cross-entropy of the uniform distribution and the softmax, summed over frames, `(batch,)`."""
    inside = mask_from_lengths(targets.logit_lengths, ops.shape(targets.logits)[1])
    logits = zero_padding(precise(targets.logits), inside)
    each = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)  # (batch, time)
    return ops.sum(zero_padding(each, inside), axis=1)
