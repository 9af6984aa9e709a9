"""Guided alignment: training attention weights towards alignments or the diagonal."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.losses.attention_weights import KINDS, check_width, diagonal_attention_loss, guided_alignment_loss
from kseq.masking import lengths_from_mask
from kseq.models.objectives.objective import Objective, TrainingBatch, check_weight, required
from kseq.numbers import read_numbers

ALIGNMENTS = "alignments"


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class GuidedAlignment(Objective):
    """Guided alignment: the loss has a term that pulls the attention weights towards alignments, or to the diagonal.

    The loss of a training step is `compiled loss + weight * g`, g being a mean over the real target tokens:

    - "cross_entropy" and "mean_squared": `kseq.losses.guided_alignment_loss` (Chen et al. 2016), over the tokens that
      have an alignment. The inputs need `alignments`, float or int `(batch, target time - 1, source time)`, at least
      0: for each target token after the first, the encoder's outputs that it belongs to. (An encoder with a
      `subsampling` has fewer outputs than the source has tokens.)
    - "diagonal": `kseq.losses.diagonal_attention_loss` (Tachibana et al. 2017), for texts that are read from left to
      right, such as speech. It needs no alignments.

    Args:
        kind: "cross_entropy", "mean_squared" or "diagonal".
        weight: The weight of the term, at least 0.
        width: As in `diagonal_attention_loss`; only for "diagonal". None: 0.2.

    Raises:
        ValueError: If an option is out of range, or the model's decoder returns no attention weights. In `fit` and
            `train_on_batch` with arrays, if the alignments are missing, have another shape, or are negative or not
            finite. In a compiled step a real token with such an alignment makes the loss NaN, and has no gradient.

    Example:
        >>> model = kseq.models.Seq2Seq(encoder, decoder, guided_alignment=kseq.training.GuidedAlignment(weight=0.5))
        >>> model.fit({"source": ..., "target": ..., "alignments": ...})

    References:
        - W. Chen, E. Matusov, S. Khadivi, J. Peter, "Guided alignment training for topic-aware neural machine
          translation", 2016.
        - H. Tachibana, K. Uenoyama, S. Aihara, "Efficiently trainable text-to-speech system based on deep
          convolutional networks with guided attention", 2017.
    """

    kind: str = "cross_entropy"
    weight: float = 0.5
    width: float | None = None

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.kind not in (*KINDS, "diagonal"):
            raise ValueError(f"kind={self.kind!r}, but it must be one of {[*KINDS, 'diagonal']}.")
        check_weight(self.weight)
        if self.width is not None:
            if self.kind != "diagonal":
                raise ValueError(f"width={self.width} was given, which kind={self.kind!r} does not have. Leave it out.")
            check_width(self.width)

    def check_model(self, model: Any) -> None:
        """Raise ValueError if the decoder returns no attention weights."""
        decoder = model.decoder
        if not returns_weights(decoder):
            raise ValueError(
                f"guided_alignment needs a decoder with attention whose call takes return_weights=True, but "
                f"{type(decoder).__name__} {decoder.name!r} is none. For a Decoder use context='attention'."
            )

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """Return the weighted mean distance of the attention weights from the alignments or the diagonal."""
        encoded, weights = batch.forward
        if self.kind == "diagonal":
            lengths = batch.target.lengths - 1, lengths_from_mask(encoded.mask)
            losses = diagonal_attention_loss(weights, *lengths, width=self.width or 0.2)
            return self.weight * batch.mean_of_tokens(losses)
        alignments = required(batch.inputs, ALIGNMENTS, f"GuidedAlignment({self.kind!r})")
        losses = guided_alignment_loss(weights, alignments, kind=self.kind)
        aligned = ops.logical_not(ops.all(ops.equal(alignments, 0), axis=-1))  # True for NaN too
        return self.weight * batch.mean_of_tokens(losses, aligned)

    def check_to_train(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if there are no alignments."""
        if self.kind != "diagonal":
            required(inputs, ALIGNMENTS, f"GuidedAlignment({self.kind!r})")

    def check_inputs(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if the alignments do not fit the targets, or are negative or not finite."""
        if ALIGNMENTS not in inputs:
            return
        values = np.asarray(inputs[ALIGNMENTS])
        if values.dtype.kind not in "iufb" and values.dtype.name != "bfloat16":
            raise ValueError(f"alignments have dtype {values.dtype}, but expected numbers.")
        rows, time = np.shape(inputs["target"])
        steps = model.encoder.encoded_shape().values[1]  # None for tokens
        steps = steps or max(1, -(-np.shape(inputs["source"])[1] // model.encoder.subsampling))
        expected = rows, time - 1, steps
        if values.shape != expected:
            raise ValueError(
                f"alignments have shape {values.shape}, but expected (batch, target time - 1, encoder outputs) = "
                f"{expected}: a row for each token of the target after the first."
            )
        real = np.arange(time - 1) < np.asarray(inputs["target_lengths"])[:, None] - 1
        wrong = ~((values >= 0) & (values < np.inf)).all(axis=2) & real
        if wrong.any():
            row, step = (int(axis) for axis in np.argwhere(wrong)[0])
            raise ValueError(
                f"alignments[{row}, {step}] = {values[row, step].tolist()}, but an alignment is at least 0 and finite. "
                "Give 0 for source positions that do not belong to the token."
            )


def returns_weights(decoder: Any) -> bool:
    """Return whether a decoder's call returns attention weights if it is asked to."""
    if "return_weights" not in inspect.signature(decoder.call).parameters:
        return False
    return getattr(decoder, "attention", True) is not None
