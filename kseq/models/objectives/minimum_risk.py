"""Minimum-risk training: the expected risk of a model's own outputs as its loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.decoding import LOG_ZERO, BeamSearch, Sampling
from kseq.decoding.hypotheses import NO_HYPOTHESIS
from kseq.masking import mask_from_lengths
from kseq.metrics.levenshtein import edit_counts
from kseq.models.objectives.forward_pass import decoding_start
from kseq.models.objectives.objective import Objective, TrainingBatch, check_share
from kseq.numbers import flag, read_numbers

Risk = str | Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Candidates(NamedTuple):
    """Outputs whose risk is compared, `n` of each row.

    Attributes:
        tokens: int32 `(batch, n, max_length)`, without the begin token; any id of the vocabulary in the padding.
        lengths: int32 `(batch, n)`, the end token included.
        usable: Bool `(batch, n)`, False where there is no candidate, or one that is among those before.
    """

    tokens: Tensor
    lengths: Tensor
    usable: Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class MinimumRisk(Objective):
    """Minimum-risk training (Shen et al. 2016): the loss is the expected risk of the model's own outputs.

    In each training step the model decodes `num_candidates` outputs of each row, to which the target is added. The loss
    of a row is `sum_y q(y) * risk(y)` over the different ones, with `q(y) = p(y) ** sharpness / sum of these`. p is the
    decoder's probability of the whole output. Its gradient lowers the probability of outputs whose risk is above the
    mean. The loss of a training step is `(1 - weight) * compiled loss + weight * m`, m being the mean over rows.

    A step decodes a batch, and runs the decoder over `num_candidates + 1` outputs of each row, so it takes several
    times as long. Train a model without it first: the outputs of an untrained model teach nothing.

    Args:
        weight: The share of the risk in the whole loss, from 0 to 1.
        num_candidates: Number of outputs that are decoded of each row, at least 1.
        candidates: "beam": the best ones of a beam search of this width. "sampling": samples.
        sharpness: Exponent of the probabilities, above 0; Shen et al. use 0.005 for sentences.
        risk: "edit_distance": the number of edits from the target, divided by its length. "sequence_error": 1 unless
            the output is the target. Or a function `(references, reference_lengths, hypotheses, hypothesis_lengths) ->
            risks`, of int32 `(rows, time)` and `(rows,)` without begin and end tokens, to float `(rows,)`; to save the
            model, register it with `keras.saving.register_keras_serializable`.
        max_length: Largest number of tokens of a candidate, the end token included; longer targets are not added.
            None: that of the targets in the batch, whose number of columns must then be known when a step is traced,
            as it is with arrays, but not with `kseq.training.bucket_by_length`.
        include_target: Whether the target is among the candidates.
        seed: Seed of the samples, only for "sampling"; None: a random one.

    Raises:
        ValueError: If an option is out of range, or `max_length` is needed and not given.

    Example:
        >>> model = kseq.models.Seq2Seq(encoder, decoder, minimum_risk=kseq.training.MinimumRisk(0.7, max_length=24))
        >>> model.load_weights("trained.weights.h5")

    Reference: S. Shen, Y. Cheng, Z. He, W. He, H. Wu, M. Sun, Y. Liu, "Minimum risk training for neural machine
    translation", 2016.
    """

    weight: float = 0.5
    num_candidates: int = 4
    candidates: str = "beam"
    sharpness: float = 1.0
    risk: Risk = "edit_distance"
    max_length: int | None = None
    include_target: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        read_numbers(self)
        check_share(self.weight)
        for name in ("num_candidates", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}, but it must be at least 1.")
        if self.candidates not in ("beam", "sampling"):
            raise ValueError(f"candidates={self.candidates!r}, but it must be 'beam' or 'sampling'.")
        if self.sharpness <= 0.0:
            raise ValueError(f"sharpness={self.sharpness}, but it must be above 0.")
        if not callable(self.risk) and self.risk not in RISKS:
            raise ValueError(f"risk={self.risk!r}, but it must be one of {list(RISKS)}, or a function.")
        if self.seed is not None and self.candidates == "beam":
            raise ValueError(f"seed={self.seed} was given, but a beam search draws nothing. Use candidates='sampling'.")
        if self.num_candidates == 1 and not self.include_target:
            raise ValueError("num_candidates=1 without the target leaves one candidate, whose share is always 1.")
        flag("include_target", self.include_target)

    @property
    def replaced(self) -> float:
        """The share of the compiled loss that the risk takes."""
        return self.weight

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """Return the weighted mean of the rows' expected risks."""
        encoded = batch.forward.encoded
        references = batch.target.ids[:, 1:], ops.maximum(batch.target.lengths - 2, 0)
        found = self._decoded(model, encoded, self._longest(batch))
        if self.include_target:
            found = _with_target(found, batch)
        found = found._replace(usable=ops.logical_and(found.usable, ops.logical_not(_seen_before(found))))
        risks = self._risks(found, *references, model.eos_id)
        logs = self.sharpness * _log_probabilities(model, encoded, found)
        shares = ops.softmax(ops.where(found.usable, logs, LOG_ZERO), axis=1)
        losses = ops.sum(ops.where(found.usable, shares * risks, 0.0), axis=1)
        return self.weight * batch.mean_of_rows(losses, "MinimumRisk")

    def _longest(self, batch: TrainingBatch) -> int:
        columns = batch.target.ids.shape[1]
        if self.max_length is not None:
            return self.max_length
        if columns is None:
            raise ValueError(
                "MinimumRisk needs max_length=..., the largest number of tokens of a candidate: the number of columns "
                "of these targets is not known when the training step is traced."
            )
        return max(columns - 1, 1)

    def _decoded(self, model: Any, encoded: Any, longest: int) -> Candidates:
        """Return the model's own outputs, without a gradient."""
        encoded = _mapped(ops.stop_gradient, encoded)
        batch, call = ops.shape(encoded.values)[0], {}
        if self.candidates == "sampling":
            strategy: Any = Sampling(num_samples=self.num_candidates)
            call["seed"] = keras.random.randint((batch,), 0, 2**31 - 1, seed=model.candidate_seeds)
        else:
            strategy = BeamSearch(beam_width=self.num_candidates, top_paths=self.num_candidates)

        def decode() -> Any:
            state, memory = decoding_start(model.decoder, encoded, longest)
            ids = {"bos_id": model.bos_id, "eos_id": model.eos_id}
            decoded = strategy(model.decoder.step, state, memory=memory, max_length=longest, **ids, **call)
            return decoded.tokens, decoded.lengths, decoded.scores

        tokens, lengths, scores = backend.without_gradient(decode, model.trainable_variables)
        usable = ops.logical_and(scores > NO_HYPOTHESIS, lengths > 0)
        return Candidates(ops.clip(tokens, 0, model.num_target_ids - 1), lengths, usable)

    def _risks(self, found: Candidates, references: Tensor, reference_lengths: Tensor, eos_id: int) -> Tensor:
        """Return the risk of each candidate, float32 `(batch, n)`."""
        batch, count, time = ops.shape(found.tokens)
        places = ops.arange(time, dtype="int32")
        ends = ops.any(ops.logical_and(places == found.lengths[..., None] - 1, found.tokens == eos_id), axis=-1)
        lengths = ops.reshape(found.lengths - ops.cast(ends, "int32"), (-1,))
        tokens = ops.reshape(found.tokens, (batch * count, time))
        references, reference_lengths = (ops.repeat(x, count, axis=0) for x in (references, reference_lengths))
        function = self.risk if callable(self.risk) else RISKS[self.risk]
        risks = function(references, reference_lengths, tokens, lengths)
        return ops.stop_gradient(ops.reshape(ops.cast(risks, "float32"), (batch, count)))


def edit_distance_per_token(
    references: Tensor, reference_lengths: Tensor, hypotheses: Tensor, hypothesis_lengths: Tensor
) -> Tensor:
    """Return the number of edits divided by the reference's length (by 1 if it is empty), float32 `(rows,)`."""
    edits = sum(edit_counts(references, hypotheses, reference_lengths, hypothesis_lengths))
    return ops.cast(edits, "float32") / ops.cast(ops.maximum(reference_lengths, 1), "float32")


def sequence_error(
    references: Tensor, reference_lengths: Tensor, hypotheses: Tensor, hypothesis_lengths: Tensor
) -> Tensor:
    """Return 0 for hypotheses that equal their references, else 1, float32 `(rows,)`."""
    edits = sum(edit_counts(references, hypotheses, reference_lengths, hypothesis_lengths))
    return ops.cast(edits > 0, "float32")


RISKS: dict[Any, Callable[..., Tensor]] = {"edit_distance": edit_distance_per_token, "sequence_error": sequence_error}


def _mapped(function: Callable[[Tensor], Tensor], encoded: Any) -> Any:
    """Return an encoder's output with a function of each tensor; an encoder of arrays has no `tokens`."""
    return tree.map_structure(lambda x: None if x is None else function(x), encoded)


def _with_target(found: Candidates, batch: TrainingBatch) -> Candidates:
    """Return the candidates and the target after them; it is not usable if it is longer than they may be."""
    longest, lengths = found.tokens.shape[2], batch.target.lengths - 1
    tokens = batch.target.ids[:, 1:]
    tokens = ops.concatenate([tokens, ops.zeros_like(found.tokens[:, 0])], axis=1)[:, :longest]
    fits = ops.logical_and(lengths > 0, lengths <= longest)
    target = tokens, ops.clip(lengths, 0, longest), fits
    return Candidates(*(ops.concatenate([x, y[:, None]], axis=1) for x, y in zip(found, target, strict=True)))


def _seen_before(found: Candidates) -> Tensor:
    """Return which candidates equal a usable one before them, bool `(batch, n)`."""
    count, time = found.tokens.shape[1:]
    real = ops.arange(time, dtype="int32") < found.lengths[..., None]
    tokens = ops.where(real, found.tokens, -1)
    equal = ops.all(tokens[:, :, None] == tokens[:, None], axis=-1)  # (batch, n, n)
    before = ops.arange(count)[:, None] > ops.arange(count)
    return ops.any(ops.logical_and(ops.logical_and(equal, before), found.usable[:, None]), axis=-1)


def _log_probabilities(model: Any, encoded: Any, found: Candidates) -> Tensor:
    """Return the decoder's log-probability of each candidate, float32 `(batch, n)`, with its gradient."""
    batch, count, time = ops.shape(found.tokens)
    tokens = ops.reshape(found.tokens, (batch * count, time))
    first = ops.full_like(tokens[:, :1], model.bos_id)
    inputs = ops.concatenate([first, tokens[:, :-1]], axis=1)
    repeated = _mapped(lambda x: ops.repeat(x, count, axis=0), encoded)
    logits = model.decoder(inputs, repeated, training=True)
    losses = ops.sparse_categorical_crossentropy(tokens, ops.cast(logits, "float32"), from_logits=True)
    real = mask_from_lengths(ops.reshape(found.lengths, (-1,)), time)
    return ops.reshape(ops.sum(ops.where(real, -losses, 0.0), axis=1), (batch, count))
