"""Cross-entropy along alignments: losses for labels without known positions, with or without a blank."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.alignment.batch import Batch, make_batch, precise
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.forward_backward import log_probability
from kseq.alignment.order_synchronous import OrderSynchronous
from kseq.alignment.topology import Topology
from kseq.alignment.viterbi import best_path
from kseq.backend import Tensor, known_value
from kseq.losses.alignment_targets import INFEASIBLE, AlignmentTargets, row_weights, warn_of_rows
from kseq.losses.reduced_loss import MEAN, ReducedLoss
from kseq.masking import zero_padding

ALIGNMENTS = ("best", "all", "uniform", "given")


@keras.saving.register_keras_serializable(package="kseq")
class AlignmentLoss(ReducedLoss):
    """Mean cross-entropy per row, in nats, between frames and the labels aligned with them.

        best, uniform, given:  sum over t of -log p_t(c_t),   c_t being the class that the alignment has at frame t
        all:                   sum over t and s of P(s_t = s | labels, input) * -log p_t(s)

    "best" is Viterbi training: the alignment is the most probable one under the current model, recomputed in each step.
    The alignments of an untrained model are poor, so train first with "uniform" or with "given" alignments, and then
    compile with "best". "all" needs no such start: it is the expected cross-entropy under the posterior distribution of
    alignments. The posteriors are held constant in its gradient, which then equals the gradient of the negative
    log-probability of the labels; the values of the two differ.

    Args:
        alignment: "best", "all", "uniform" (states share the frames as evenly as the topology allows), or "given"
            (`y_true` is the alignment; `topology` and `infeasible` do not apply).
        topology: The set of allowed alignments: `kseq.alignment.OrderSynchronous()`, the default, in which every frame
            belongs to a label, or `kseq.alignment.CTCTopology(blank_index)`.
        infeasible: The loss of a row with fewer frames than its labels need: "inf" or "zero". Its gradient is zero.
        reduction: As in `kseq.losses.CTC`.
        name: Name of the loss.
        dtype: As in `kseq.losses.CTC`.

    Call arguments:
        y_true: As in `kseq.losses.CTC`. With "given", int `(batch, time)`, the class of each frame.
        y_pred: Float `(batch, time, classes)`, unnormalised logits; their implicit Keras mask gives the number of
            frames of each row.
        sample_weight: Float `(batch,)`; rows of weight 0 are ignored, even if infeasible, invalid or NaN.

    Returns:
        A scalar: the weighted mean over rows, or another reduction.

    Example:
        >>> model.compile("adam", loss=kseq.losses.AlignmentLoss(alignment="uniform"))
        >>> model.fit(features, labels, epochs=2)
        >>> model.compile("adam", loss=kseq.losses.AlignmentLoss(alignment="best"))
        >>> model.fit(features, labels, epochs=20)

    Reference: L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", 1989
    (segmental k-means, and Baum-Welch).
    """

    def __init__(
        self,
        *,
        alignment: str = "all",
        topology: Topology | None = None,
        infeasible: str = "inf",
        reduction: str | None = MEAN,
        name: str = "alignment_loss",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        for option, value, known in (("alignment", alignment, ALIGNMENTS), ("infeasible", infeasible, INFEASIBLE)):
            if value not in known:
                raise ValueError(f"{option}={value!r}, expected one of {known}.")
        if alignment == "given" and (topology is not None or infeasible != "inf"):
            raise ValueError(
                f'alignment="given" has no topology and no infeasible rows, but got topology={topology!r} and '
                f"infeasible={infeasible!r}. Leave both out."
            )
        self.alignment, self.infeasible = alignment, infeasible
        self.topology = OrderSynchronous() if topology is None else topology

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over rows, or another reduction."""
        targets = AlignmentTargets.of(y_true, y_pred)
        weights = row_weights(targets.logits, sample_weight)
        return self.reduce(self._losses(targets if weights is None else targets.without(weights == 0)), weights)

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """Return the loss of each row, `(batch,)`."""
        return self._losses(AlignmentTargets.of(y_true, y_pred))

    def _losses(self, targets: AlignmentTargets) -> Tensor:
        if self.alignment == "given":
            return _along_given(targets)
        known = isinstance(self.topology, CTCTopology | OrderSynchronous)  # others may need fewer frames
        warn_of_rows(targets, self.topology.blank_index, of_short=known and self.infeasible == "inf")
        batch = make_batch(*targets, self.topology)
        if self.alignment == "all":
            losses = -log_probability(self.topology, batch, expected=True)
        else:
            losses = self._along_path(batch)
        if self.infeasible == "inf":
            return losses
        return ops.where(ops.logical_and(losses == np.inf, batch.usable), ops.zeros_like(losses), losses)

    def _along_path(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of each row with its best or uniform alignment."""
        path = best_path(self.topology, batch, ops.shape(batch.inside)[1], uniform=self.alignment == "uniform")
        each = _cross_entropy(path.classes, zero_padding(batch.logits, batch.inside))
        return ops.where(ops.isfinite(path.scores), ops.sum(each, axis=1), -path.scores)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        given = self.alignment == "given"
        return {
            **super().get_config(),
            "alignment": self.alignment,
            "topology": None if given else keras.saving.serialize_keras_object(self.topology),
            "infeasible": self.infeasible,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AlignmentLoss":
        """Make a loss from `get_config`."""
        if config["alignment"] == "given":  # older configs hold options without effect
            config = {**config, "topology": None, "infeasible": "inf"}
        return cls(**{**config, "topology": keras.saving.deserialize_keras_object(config["topology"])})


def _cross_entropy(classes: Tensor, logits: Tensor) -> Tensor:
    """Return the cross-entropy of each frame, `(batch, time)`; 0 where the class is -1, NaN where it is no class."""
    right = ops.logical_and(classes >= 0, classes < ops.shape(logits)[2])
    each = ops.sparse_categorical_crossentropy(ops.where(right, classes, 0), logits, from_logits=True)
    return ops.where(right, each, ops.where(classes < 0, ops.zeros_like(each), ops.full_like(each, np.nan)))


def _along_given(targets: AlignmentTargets) -> Tensor:
    """Return the cross-entropy of each row with the alignment given as its labels."""
    classes, logits = targets.labels, precise(targets.logits)
    if None not in (classes.shape[1], logits.shape[1]) and classes.shape[1] != logits.shape[1]:
        raise ValueError(
            f'alignment="given" takes y_true of shape (batch, time), a class for each frame, but y_true has shape '
            f"{tuple(classes.shape)} and y_pred {tuple(logits.shape)}."
        )
    known = known_value(classes)
    if known is not None and known.size and known.max() >= logits.shape[2]:
        raise ValueError(
            f'alignment="given" has the class {known.max()}, but the logits have {logits.shape[2]} classes, 0 to '
            f"{logits.shape[2] - 1}."
        )
    frames = ops.arange(ops.shape(logits)[1], dtype="int32")[None, :]
    inside = frames < ops.cast(ops.minimum(targets.label_lengths, targets.logit_lengths), "int32")[:, None]
    classes = ops.where(inside, ops.cast(classes, "int32"), -1)
    return ops.sum(_cross_entropy(classes, zero_padding(logits, inside)), axis=1)
