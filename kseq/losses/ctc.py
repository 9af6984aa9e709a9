"""Connectionist temporal classification: the loss of labels whose places in the input are not known."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.alignment.batch import make_batch, precise
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.forward_backward import log_probability
from kseq.backend import Tensor
from kseq.losses.alignment_targets import INFEASIBLE, AlignmentTargets, weighted_mean
from kseq.masking import mask_from_lengths, zero_padding


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

    An alignment gives each frame a label or the blank; with repeats collapsed and then blanks dropped, it spells the
    labels. The gradient with respect to the logits is softmax less the posteriors of the classes.

    Args:
        labels: int `(batch, max_labels)`, classes; after `label_lengths` of them anything may stand.
        logits: Float `(batch, time, classes)`, unnormalised; after `logit_lengths` of them anything may stand, NaN too.
            The arithmetic is in float32 at least.
        label_lengths: int `(batch,)`, from 0 to `max_labels`.
        logit_lengths: int `(batch,)`, from 0 to `time`.
        blank_index: The class that is the blank; -1 is the last.
        infeasible: What a row is worth whose labels have no alignment, because the frames are fewer than labels and
            repeats, or all alignments have probability zero: "inf", or "zero". Its gradient is zero either way.

    Returns:
        Float32 `(batch,)`; float64 if the logits are. No labels and no frames make 0. In a compiled graph a row whose
        labels are no classes or the blank, or whose lengths are out of range, is infeasible; one with NaN or +inf among
        its logits, or with a frame of nothing but -inf, is NaN, and so is its gradient. No row touches another.

    Raises:
        ValueError: If the shapes do not fit together, a dtype is wrong, or an option is unknown; and where values are
            known (outside compiled graphs), if a label is no class or the blank, a length is out of range, or a logit
            is NaN or +inf.
        NotImplementedError: If the gradient of the gradient is asked for. In a graph of TensorFlow it is an
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
    return losses if infeasible == "inf" else ops.where(losses == np.inf, ops.zeros_like(losses), losses)


@keras.saving.register_keras_serializable(package="kseq")
class CTC(keras.losses.Loss):
    """Mean CTC loss in nats per row, with lengths of its own, so that masked models train in `fit`.

    The frames of a row are those that the predictions' mask leaves; all, if they carry none. The labels of a row end
    before its first negative one: pad them with -1.

    Args:
        blank_index: The class that is the blank; -1 is the last.
        infeasible: What a row without any alignment is worth, "inf" or "zero"; its gradient is zero.
        label_smoothing: Share in [0, 1) of the loss that is, instead, the cross-entropy of all frames with the uniform
            distribution (S. Kim, M. Seltzer, J. Li, R. Zhao, "Improved training for online end-to-end speech
            recognition systems", 2018).
        name: Name of the loss.

    Call arguments:
        y_true: int `(batch, max_labels)`, padded with negative numbers; or a dict of `labels`, and if they are not
            padded so `label_lengths`, and if the predictions' mask does not say them `logit_lengths`.
        y_pred: Float `(batch, time, classes)`, unnormalised logits.
        sample_weight: Float `(batch,)`; a row of weight 0 does not count, even if it is infeasible.

    Returns:
        A scalar: the mean over rows, weighted.

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
        name: str = "ctc",
        **kwargs: Any,
    ):
        kwargs.pop("reduction", None)  # get_config of the base class says it; there is one reduction here
        super().__init__(name=name, **kwargs)
        _check_infeasible(infeasible)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={label_smoothing} must be at least 0 and below 1.")
        self.blank_index, self.infeasible, self.label_smoothing = blank_index, infeasible, label_smoothing

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over rows."""
        return weighted_mean(self.call(y_true, y_pred), sample_weight)

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss of each row, `(batch,)`."""
        targets = AlignmentTargets.of(y_true, y_pred)
        losses = ctc_loss(*targets, blank_index=self.blank_index)
        feasible = losses != np.inf
        if self.label_smoothing:
            uniform = ops.where(feasible, _uniform_cross_entropy(targets), ops.zeros_like(losses))
            losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return losses if self.infeasible == "inf" else ops.where(feasible, losses, ops.zeros_like(losses))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "blank_index": self.blank_index,
            "infeasible": self.infeasible,
            "label_smoothing": self.label_smoothing,
        }


def _check_infeasible(infeasible: str) -> None:
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible={infeasible!r}, expected one of {INFEASIBLE}.")


def _uniform_cross_entropy(targets: AlignmentTargets) -> Tensor:
    """Return the cross-entropy of the uniform distribution and the softmax, summed over frames, `(batch,)`."""
    inside = mask_from_lengths(targets.logit_lengths, ops.shape(targets.logits)[1])
    logits = zero_padding(precise(targets.logits), inside)
    each = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)  # (batch, time)
    return ops.sum(zero_padding(each, inside), axis=1)
