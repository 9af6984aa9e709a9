"""Prefix beam search over chunks of frames."""

from dataclasses import dataclass
from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.decoding.ctc.frames import Written, read_back, read_rows, write
from kseq.decoding.ctc.prefix_beam import Beam, log_add
from kseq.decoding.ctc.search import CTCBeamSearch, CTCDecoded, decoded
from kseq.decoding.hypotheses import NO_HYPOTHESIS, take_hypotheses
from kseq.numbers import read_numbers


class CTCStream(NamedTuple):
    """The state between chunks, which the caller keeps: a nest of tensors with the batch, or batch x beam, first.

    Attributes:
        beam: The prefixes' probabilities and the scorers' states, best first.
        written: The prefixes: `n` is the beam, `time` is `max_length`.
        position: int32 `(batch,)`, frames so far.
        valid: bool `(batch,)`, whether the probabilities of all frames so far are numbers.
    """

    beam: Beam
    written: Written
    position: Tensor
    valid: Tensor


@dataclass(frozen=True, kw_only=True)
class CTCStreaming:
    """`ctc_beam_search` in chunks, with the same final answer as for all frames at once, whatever the chunks.

    All methods are pure and compile: the state is passed in and returned. Chunks of one shape compile once; the lengths
    of a chunk say how many frames each row has in it, which may be none.

    Attributes:
        search: The search, its scorers included.
        max_length: The most symbols of a string; symbols after these are dropped. Static.

    Example:
        >>> streaming = CTCStreaming(search=CTCBeamSearch(beam_width=8), max_length=200)
        >>> state = streaming.start(batch=1, classes=32)
        >>> for logits in chunks:  # (1, 20, 32) each
        ...     state = streaming.advance(state, logits, np.array([20]))
        ...     print(streaming.stable(state).tokens)
        >>> decoded = streaming.finish(state)
    """

    search: CTCBeamSearch
    max_length: int

    def __post_init__(self) -> None:
        read_numbers(self)
        if not isinstance(self.search, CTCBeamSearch):
            raise TypeError(f"search must be a CTCBeamSearch, but is {self.search!r}.")
        if self.max_length < 1:
            raise ValueError(f"max_length must be 1 or more, but got max_length={self.max_length}.")

    def start(self, batch: int | Tensor, classes: int) -> CTCStream:
        """Return the state before the first frame.

        Args:
            batch: Number of rows.
            classes: Number of classes of the logits, the blank included.
        """
        shape = (batch, self.search.beam_width)
        nothing = ops.full((*shape, self.max_length), -1, dtype="int32")
        return CTCStream(
            beam=self.search.core(classes).start(batch),
            written=Written(nothing, ops.zeros(shape, dtype="int32"), nothing),
            position=ops.zeros((batch,), dtype="int32"),
            valid=ops.ones((batch,), dtype="bool"),
        )

    def advance(self, state: CTCStream, logits: Tensor, logit_lengths: Tensor) -> CTCStream:
        """Return the state after a chunk.

        Args:
            state: The state before.
            logits: Float `(batch, time, classes)`, unnormalised.
            logit_lengths: int `(batch,)`, how many of these frames each row has.

        Raises:
            ValueError: As `ctc_beam_search`.
        """
        rows = read_rows(logits, logit_lengths, self.search.blank_index)
        core = self.search.core(rows.logits.shape[2])
        beam, origins = self.search.follow(core, rows, state.beam)
        here = ops.broadcast_to(ops.arange(core.beam_width, dtype="int32"), ops.shape(state.written.lengths))
        tokens, places = read_back(origins, here, core.classes)
        return CTCStream(
            beam=beam,
            written=self._append(take_hypotheses(state.written, places), write(tokens, state.position)),
            position=state.position + ops.sum(ops.cast(rows.real, "int32"), axis=1),
            valid=ops.logical_and(state.valid, rows.valid),
        )

    def stable(self, state: CTCStream) -> Written:
        """Return the beginning that all prefixes of the beam share, which no later frame can change.

        Returns:
            tokens int32 `(batch, max_length)`, -1 after the end; lengths int32 `(batch,)`; frames as tokens, those of
            the best prefix.
        """
        alive = log_add(state.beam.blank, state.beam.symbol) + state.beam.bonus > NO_HYPOTHESIS  # (batch, beam)
        tokens, lengths, frames = state.written
        same = ops.logical_or(tokens == tokens[:, :1], ops.logical_not(alive[..., None]))
        differs = ops.cast(ops.logical_not(ops.all(same, axis=1)), "int32")  # (batch, max_length)
        place = ops.arange(self.max_length, dtype="int32")
        kept = ops.logical_and(ops.cumsum(differs, axis=1) == 0, place < lengths[:, :1])
        length = ops.sum(ops.cast(kept, "int32"), axis=1)
        return Written(ops.where(kept, tokens[:, 0], -1), length, ops.where(kept, frames[:, 0], -1))

    def finish(self, state: CTCStream) -> CTCDecoded:
        """Return the answer if the utterance ends here; tokens and frames are `(batch, top_paths, max_length)`."""
        scores, places = self.search.best(state.beam)
        return decoded(take_hypotheses(state.written, places), scores, state.valid, self.max_length)

    def _append(self, old: Written, new: Written) -> Written:
        """Return `old` `(batch, beam, max_length)` followed by `new` `(batch, beam, time)`."""
        place = ops.arange(self.max_length, dtype="int32") - old.lengths[..., None]  # (batch, beam, max_length)
        is_new = ops.logical_and(place >= 0, place < new.lengths[..., None])
        index = ops.clip(place, 0, ops.shape(new.tokens)[2] - 1)

        def append(old: Tensor, new: Tensor) -> Tensor:
            return ops.where(is_new, ops.take_along_axis(new, index, axis=2), old)

        lengths = ops.minimum(old.lengths + new.lengths, self.max_length)
        return Written(append(old.tokens, new.tokens), lengths, append(old.frames, new.frames))
