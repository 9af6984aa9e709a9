"""Joint CTC and attention: a CTC loss on the encoder, and decoding by both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.ctc.prefix_scores import CTCPrefixStep, without_classes
from kseq.losses import ctc_loss
from kseq.losses.alignment_targets import INFEASIBLE
from kseq.masking import lengths_from_mask
from kseq.models.objectives.objective import Objective, TrainingBatch, check_share
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class JointCTC(Objective):
    """Joint CTC and attention (Watanabe et al. 2017): CTC makes alignments monotonic and helps the encoder to learn.

    A linear layer over the encoder's outputs computes the logits of CTC, whose classes are the target's tokens with
    `pad_id` as the blank. The loss of a training step is `(1 - weight) * compiled loss + weight * c`, c being the mean
    over rows of `kseq.ctc_loss` of the target without its begin and end tokens.

    Decoding is joint too, in one pass and by every strategy: the score of a text is `(1 - decoding_weight) * log
    p_decoder + decoding_weight * log p_CTC`, token by token by `kseq.decoding.CTCJointStep`. Texts that CTC cannot
    align, such as those with more tokens than the encoder has outputs, are then impossible.

    Args:
        weight: The share of CTC in the loss, from 0 to 1.
        decoding_weight: The share of CTC in the scores of decoding, from 0 to 1; 0 decodes with the decoder alone.
            None: `weight`.
        infeasible: The CTC loss of a row whose target has no alignment: "inf", or "zero" to train the decoder alone on
            such a row.

    Raises:
        ValueError: If an option is out of range, or `pad_id` is not an id of the target's vocabulary. In `fit` and
            `train_on_batch` with arrays, if a target has the begin, end or padding token inside, or, with
            `infeasible="inf"`, has no alignment; in a compiled step such a row has the loss inf, and CTC no gradient.

    Example:
        >>> model = kseq.models.Seq2Seq(encoder, decoder, ctc=kseq.training.JointCTC(0.3))
        >>> model.decode(source, source_lengths, strategy="beam", max_length=20)

    Reference: S. Watanabe, T. Hori, S. Kim, J. Hershey, T. Hayashi, "Hybrid CTC/attention architecture for end-to-end
    speech recognition", 2017.
    """

    weight: float = 0.3
    decoding_weight: float | None = None
    infeasible: str = "inf"

    def __post_init__(self) -> None:
        read_numbers(self)
        check_share(self.weight)
        if self.decoding_weight is not None and not 0.0 <= self.decoding_weight <= 1.0:
            raise ValueError(
                f"decoding_weight={self.decoding_weight}, but it is a share of the scores: a number from 0 to 1."
            )
        if self.infeasible not in INFEASIBLE:
            raise ValueError(f"infeasible={self.infeasible!r}, expected one of {INFEASIBLE}.")

    @property
    def replaced(self) -> float:
        """The share of the compiled loss that CTC takes."""
        return self.weight

    @property
    def decodes_with(self) -> float:
        """The share of CTC in the scores of decoding."""
        return self.weight if self.decoding_weight is None else self.decoding_weight

    def check_model(self, model: Any) -> None:
        """Raise ValueError if the blank is not an id of the target's vocabulary, or is a token."""
        size = model.target_vocabulary_size
        if model.num_target_ids != size:
            raise ValueError(
                f"ctc={self} needs a decoder that writes the {size} tokens of its vocabulary alone, but "
                f"{type(model.decoder).__name__} also copies tokens. Leave ctc out, or use a Decoder."
            )
        if not 0 <= model.pad_id < size or model.pad_id in (model.bos_id, model.eos_id):
            raise ValueError(
                f"The blank of CTC is pad_id={model.pad_id}, but it must be an id of the target's vocabulary, 0 to "
                f"{size - 1}, other than bos_id={model.bos_id} and eos_id={model.eos_id}."
            )

    def prefixes(self, model: Any) -> CTCPrefixStep:
        """Return the CTC step of a model's decoding."""
        return CTCPrefixStep(bos_id=model.bos_id, eos_id=model.eos_id, blank_index=model.pad_id)

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """Return the weighted mean CTC loss of the rows."""
        encoded, ends = batch.forward.encoded, (model.bos_id, model.eos_id)
        logits = without_classes(ops.cast(model.to_ctc_logits(encoded.values), "float32"), ends)
        labels = batch.target.ids[:, 1:]
        for end in ends:  # inside a target they are as wrong as the blank
            labels = ops.where(labels == end, model.pad_id, labels)
        losses = ctc_loss(
            labels,
            logits,
            ops.maximum(batch.target.lengths - 2, 0),
            lengths_from_mask(encoded.mask),
            blank_index=model.pad_id,
            infeasible=self.infeasible,
        )
        return self.weight * batch.mean_of_rows(losses, "JointCTC")

    def check_to_train(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if a target has no CTC loss."""
        steps = model.encoder.encoded_shape().values[1]  # None for tokens
        if any(name not in inputs for name in ("target", "target_lengths", *["source_lengths"] * (steps is None))):
            return  # other checks say so
        target, lengths = (np.asarray(inputs[name]) for name in ("target", "target_lengths"))
        if target.ndim != 2 or lengths.shape != target.shape[:1]:
            return
        inside = np.arange(1, target.shape[1]) < lengths[:, None] - 1
        labels = target[:, 1:]
        wrong = inside & np.isin(labels, (model.bos_id, model.eos_id, model.pad_id))
        if wrong.any():
            row, place = (int(axis) for axis in np.argwhere(wrong)[0])
            raise ValueError(
                f"target[{row}, {place + 1}] = {labels[row, place]} is the begin, end or padding token inside a "
                "target, which CTC cannot write. Correct target_lengths, or drop the row."
            )
        if self.infeasible == "inf":
            repeats = ((labels[:, 1:] == labels[:, :-1]) & inside[:, 1:]).sum(axis=1)
            if steps is None:
                steps = -(-np.asarray(inputs["source_lengths"]) // model.encoder.subsampling)
            _check_feasible(inside.sum(axis=1), repeats, np.broadcast_to(steps, len(target)))


def _check_feasible(labels: np.ndarray, repeats: np.ndarray, steps: np.ndarray) -> None:
    short = np.flatnonzero(steps < labels + repeats)
    if len(short):
        row = int(short[0])
        raise ValueError(
            f"CTC needs as many encoder outputs as target tokens + repeats. Row {row}: {steps[row]} outputs, "
            f"{labels[row]} tokens between begin and end, {repeats[row]} repeats; {len(short)} such rows. Drop them, "
            'or use kseq.training.JointCTC(infeasible="zero").'
        )
