"""CTC decoding by the best alignment, and by prefix beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor, scan, without_autograph
from kseq.compiled_parts import call_part
from kseq.decoding.compiled_calls import compiled_again
from kseq.decoding.ctc.frames import Rows, Written, frames_of, padded_rows, read_back, read_rows, write
from kseq.decoding.ctc.prefix_beam import Beam, PrefixBeam, log_add
from kseq.decoding.ctc.scorer import Scorer, checked_scorers
from kseq.decoding.decoding import LOG_ZERO, Options
from kseq.decoding.hypotheses import NO_HYPOTHESIS
from kseq.decoding.option_names import checks_options
from kseq.numbers import read_numbers


class CTCDecoded(NamedTuple):
    """The `n` best strings of each row, best first.

    Attributes:
        tokens: int32 `(batch, n, time)`, classes without blanks, -1 after the end.
        lengths: int32 `(batch, n)`, symbols of each string. 0 where there are fewer than `n` strings.
        scores: float32 `(batch, n)`, log-probabilities in nats, plus the scores of scorers; -1e30 where there is none.
        frames: int32 `(batch, n, time)`, the frame of each symbol, -1 after the end.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    frames: Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class CTCBeamSearch(Options):
    """Prefix beam search as an object: `ctc_beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = CTCBeamSearch(beam_width=32, top_paths=3)(logits, logit_lengths)
    """

    beam_width: int = 16
    top_paths: int = 1
    blank_index: int = 0
    classes_per_frame: int | None = None
    scorers: tuple[Scorer, ...] = ()

    def __post_init__(self) -> None:
        read_numbers(self)
        object.__setattr__(self, "scorers", checked_scorers(self.scorers))
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be 1 or more, but got beam_width={self.beam_width}.")
        if not 1 <= self.top_paths <= self.beam_width:
            raise ValueError(
                f"top_paths must be between 1 and beam_width, but got top_paths={self.top_paths} and "
                f"beam_width={self.beam_width}. Widen the beam, or ask for fewer strings."
            )
        if self.classes_per_frame is not None and self.classes_per_frame < 1:
            raise ValueError(f"classes_per_frame must be 1 or more, or None for all, but got {self.classes_per_frame}.")

    @without_autograph
    def __call__(self, logits: Tensor, logit_lengths: Tensor) -> CTCDecoded:
        """Decode; see `ctc_beam_search`."""
        rows = read_rows(logits, logit_lengths, self.blank_index)

        logits, lengths = ops.convert_to_tensor(logits), ops.convert_to_tensor(logit_lengths)
        if self.scorers and logits.shape[1]:  # a graph, whose number of frames is unknown, needs a first frame
            compiled = compiled_again(self._decode_again, read_rows, (self, logits.shape[2]))
            if compiled is not None:
                return compiled(logits, lengths)
        return self._decode(rows, ops.shape(logits)[1])

    def _decode_again(self, read: Callable, logits: Tensor, logit_lengths: Tensor) -> CTCDecoded:
        return self._decode(read(logits, logit_lengths, self.blank_index), ops.shape(logits)[1])

    def _decode(self, rows: Rows, time: int | Tensor) -> CTCDecoded:
        """Return the strings of checked rows of `time` frames."""
        if self.scorers:  # of which XLA may not know the operations
            found = self._search(rows)
        else:
            key, batch = (self, rows.logits.shape[2]), ops.shape(rows.valid)[0]
            frames = ops.shape(rows.logits)[1]
            found = call_part(self._search, rows, padded_rows, key=key, steps=frames)
            found = CTCDecoded(*(each[:batch] for each in found))
        return found._replace(tokens=found.tokens[:, :, :time], frames=found.frames[:, :, :time])

    def _search(self, rows: Rows) -> CTCDecoded:
        core = self.core(rows.logits.shape[2])
        beam, origins = self.follow(core, rows, core.start(ops.shape(rows.logits)[0]))
        scores, places = self.best(beam)
        tokens, _ = read_back(origins, places, core.classes)
        return decoded(write(tokens), scores, rows.valid, None)

    def core(self, classes: int) -> PrefixBeam:
        """Return the step of the search over `classes`."""
        if classes < 2:
            raise ValueError(f"CTC needs a blank and one symbol or more, but the logits have {classes} class.")
        symbols = min(classes - 1, self.classes_per_frame or classes)
        if not self.scorers:  # no more can enter the beam, see PrefixBeam.blocks
            symbols = min(symbols, self.beam_width + 1)
        return PrefixBeam(self.beam_width, classes, symbols, self.scorers)

    def follow(self, core: PrefixBeam, rows: Rows, beam: Beam) -> tuple[Beam, Tensor]:
        """Return the beam after all frames, and the origins of its prefixes by frame, int32 `(time, batch, beam)`."""
        frames = frames_of(rows, core.symbols, ranked=not self.scorers)
        flat = ops.reshape(rows.logits, (-1,))
        return scan(lambda beam, frame: core.advance(flat, beam, frame), beam, frames, fetch_ahead=True)

    def best(self, beam: Beam) -> tuple[Tensor, Tensor]:
        """Return scores and places of the best strings if the utterance ends here, `(batch, top_paths)` each."""
        scores = log_add(beam.blank, beam.symbol)  # (batch, beam)
        if self.scorers:
            scores = scores + beam.bonus
            for scorer, state in zip(self.scorers, beam.states, strict=True):
                scores = scores + ops.reshape(scorer.finish(state) + ops.zeros((ops.size(scores),)), ops.shape(scores))
        scores, places = ops.top_k(scores, self.top_paths)
        return scores, ops.cast(places, "int32")


def decoded(written: Written, scores: Tensor, valid: Tensor, time: int | None) -> CTCDecoded:
    """Return the strings of valid rows; an invalid row has no symbols, and NaN as its score."""
    exists = ops.logical_and(scores > NO_HYPOTHESIS, valid[:, None])  # (batch, n)
    scores = ops.where(valid[:, None], ops.where(exists, scores, LOG_ZERO), float("nan"))
    tokens, frames = (ops.where(exists[..., None], x, -1)[:, :, :time] for x in (written.tokens, written.frames))
    return CTCDecoded(tokens, ops.where(exists, written.lengths, 0), scores, frames)


@checks_options
@without_autograph
def ctc_greedy_decode(logits: Tensor, logit_lengths: Tensor, *, blank_index: int | None = 0) -> CTCDecoded:
    """Take the most probable class of every frame, merge repetitions, and drop blanks.

    This is the best alignment, not the best string: its score is the log-probability of that one alignment, which is
    not above the string's. Of equal classes the lower is taken.

    Args:
        logits: Float `(batch, time, classes)`, unnormalised.
        logit_lengths: int `(batch,)`, frames of each row; later frames change nothing.
        blank_index: The blank's class; -1 is the last. None if there is no blank: repetitions are merged, and every run
            of a class is one symbol.

    Returns:
        `CTCDecoded` with one string per row. Its frames are those in which a symbol begins; without a blank, those in
        which it ends. In compiled functions, where wrong values cannot raise: a length beyond the frames counts as
        all of them; a row with a frame whose logits are NaN, infinite or all minus infinity has no symbols and the
        score NaN. Other rows are as they would be alone.

    Raises:
        ValueError: If a shape, a dtype or the blank is wrong; outside compiled functions also if a length is beyond the
            frames, or the logits of a frame are no probabilities.

    Example:
        >>> logits = 9.0 * ops.one_hot(np.array([[1, 1, 0, 1, 2]]), 3)
        >>> decoded = ctc_greedy_decode(logits, np.array([5]))
        >>> decoded.tokens, decoded.frames
        ([[[1, 1, 2, -1, -1]]], [[[0, 3, 4, -1, -1]]])

    Reference: A. Graves et al., "Connectionist temporal classification", 2006.
    """
    rows = read_rows(logits, logit_lengths, blank_index)
    path = ops.cast(ops.argmax(rows.logits, axis=-1), "int32")  # (batch, time)
    highest = ops.max(ops.cast(rows.logits, "float32"), axis=-1, initial=LOG_ZERO) - rows.normalizer
    scores = ops.sum(ops.where(rows.real, highest, 0.0), axis=1)
    path = ops.where(rows.real, path, -1)
    outside = ops.full_like(path[:, :1], -1)
    if blank_index is None:
        neighbour, blank = ops.concatenate([path[:, 1:], outside], axis=1), -1
    else:
        neighbour, blank = ops.concatenate([outside, path[:, :-1]], axis=1), rows.blank
    written = ops.where(ops.logical_or(path == neighbour, path == blank), -1, path)
    return decoded(write(written[:, None]), scores[:, None], rows.valid, ops.convert_to_tensor(logits).shape[1])


@checks_options
def ctc_beam_search(
    logits: Tensor,
    logit_lengths: Tensor,
    *,
    beam_width: int = 16,
    top_paths: int = 1,
    blank_index: int = 0,
    classes_per_frame: int | None = None,
    scorers: tuple[Scorer, ...] = (),
) -> CTCDecoded:
    """Follow the `beam_width` most probable prefixes frame by frame, each summed over its alignments.

    A string's score is the log-probability of those of its alignments whose prefixes stayed in the beam. It is never
    above the string's log-probability, and equal to it if the beam is wide enough. Of equals, an unchanged prefix goes
    before an extended one, then the better prefix, then the more probable symbol.

    A symbol's frame is the one in which it begins. If a prefix of the beam is also reached again from its parent, the
    frames of the more probable way are taken.

    Args:
        logits: Float `(batch, time, classes)`, unnormalised.
        logit_lengths: int `(batch,)`, frames of each row; later frames change nothing.
        beam_width: How many prefixes are followed.
        top_paths: How many strings are returned.
        blank_index: The blank's class; -1 is the last.
        classes_per_frame: How many of a frame's symbols, the most probable, may extend a prefix; None for all. The
            others make no new prefixes, but still count for prefixes in the beam. Without scorers only the best
            `beam_width + 1` symbols can matter, and only these are read.
        scorers: Scorers of prefixes beside the network: language models, hot words, a lexicon.

    Returns:
        `CTCDecoded` with `top_paths` strings per row, best first. In compiled functions, where wrong values cannot
        raise: a length beyond the frames counts as all of them; a row with a frame whose logits are NaN, infinite or
        all minus infinity has no symbols and the score NaN. Other rows are as they would be alone.

    Raises:
        ValueError: If an option, a shape or a dtype is wrong; outside compiled functions also if a length is beyond the
            frames, or the logits of a frame are no probabilities.

    Example:
        >>> logits = np.log([[[0.4, 0.35, 0.25], [0.4, 0.35, 0.25]]])
        >>> decoded = ctc_beam_search(logits, np.array([2]), top_paths=2)  # greedy says nothing, by 0.16
        >>> decoded.tokens, ops.exp(decoded.scores)
        ([[[1, -1], [2, -1]]], [[0.4025, 0.2625]])

    References:
        - A. Graves et al., "Connectionist temporal classification", 2006.
        - A. Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent
          DNNs", 2014.
    """
    search = CTCBeamSearch(
        beam_width=beam_width,
        top_paths=top_paths,
        blank_index=blank_index,
        classes_per_frame=classes_per_frame,
        scorers=scorers,
    )
    return search(logits, logit_lengths)
